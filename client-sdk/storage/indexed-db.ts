/** IndexedDB's requests and transactions, as promises. */

export function open(name: string, upgrade: (database: IDBDatabase) => void): Promise<IDBDatabase> {
  const request = indexedDB.open(name, 1);
  request.onupgradeneeded = () => upgrade(request.result);
  return result(request);
}

export function result<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error("IndexedDB refused a request"));
  });
}

/** When it has happened, or nothing of it. */
export function done(transaction: IDBTransaction): Promise<void> {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error ?? new Error("IndexedDB gave up a transaction"));
  });
}

/** Also while somebody has it open: they are asked to let go of it. */
export async function remove(name: string): Promise<void> {
  await result(indexedDB.deleteDatabase(name));
}
