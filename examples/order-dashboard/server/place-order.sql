-- An order as a customer places it: its rows and its announcement are one transaction. Pages that are open say it once it is
-- committed, and nobody ever hears of an order that was rolled back. Nothing here tells anybody about the rows.

CREATE OR REPLACE FUNCTION place_order() RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
  placed orders;
BEGIN
  INSERT INTO orders (customer_id) SELECT id FROM customers ORDER BY random() LIMIT 1 RETURNING * INTO placed;
  INSERT INTO order_items (order_id, line, product_id, quantity, unit_price)
    SELECT placed.id, row_number() OVER (), id, 1 + floor(random() * 2)::int, price
    FROM (SELECT id, price FROM products ORDER BY random() LIMIT 1 + floor(random() * 3)::int) AS basket;
  UPDATE orders SET amount = (SELECT sum(quantity * unit_price) FROM order_items WHERE order_id = placed.id)
    WHERE id = placed.id RETURNING * INTO placed;
  PERFORM walcast.publish('orders', jsonb_build_object(
    'id', placed.id,
    'customer', (SELECT name FROM customers WHERE id = placed.customer_id),
    'amount', placed.amount));
  RETURN placed.id;
END $$;
