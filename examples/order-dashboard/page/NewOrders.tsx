/** Says that an order was placed, by whomever and wherever: the message is part of the order's own transaction. */
import { useTopic } from "@walcast/client/react";
import { useState } from "react";
import { placeOrder } from "./api.ts";
import { formatMoney } from "./format.ts";
import { useNotify, useSay } from "./Toasts.tsx";

interface Placed {
  readonly id: number;
  readonly customer: string;
  readonly amount: number;
}

export function NewOrders() {
  const say = useSay();
  useTopic<Placed>("orders", {
    onMessage: ({ payload: { id, customer, amount } }) =>
      say(`Order ${id}: ${customer} bought for ${formatMoney(amount)}`),
  });
  return null;
}

export function OrderButton() {
  const [isSending, setSending] = useState(false);
  const notify = useNotify();
  async function order() {
    setSending(true);
    await placeOrder().catch((error: Error) => notify(error.message));
    setSending(false);
  }
  return (
    <button type="button" className="quiet" disabled={isSending} onClick={() => void order()}>
      Place an order
    </button>
  );
}
