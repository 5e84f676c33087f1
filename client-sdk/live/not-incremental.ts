/** Why a query has to run again. */
export class NotIncremental extends Error {}
