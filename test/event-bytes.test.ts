import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { stringifyJson } from '../src/core/json.ts';
import { storedPayment } from '../src/payments/stored.ts';
import type { Payment } from '../src/payments/types.ts';
import { paymentView } from '../src/payments/view.ts';
import { actor } from './actor.ts';
import { startTestServer, type TestServer } from './fixtures.ts';

let server: TestServer;
let me: ReturnType<typeof actor>;
before(async () => {
  server = await startTestServer();
  me = actor(server);
});
after(() => server.stop());

test('an event shows its payment with the bytes with which the database gives its row', async () => {
  await me.fund(1_000_000);
  const metadata = {
    'a longer key': '1',
    zz: '2',
    ä: '3',
    b: '4',
    7: '5',
    '\u{ff5e}b': '6',
    '\u{1f600}': '7',
  };
  const wallet_id = server.credentials.wallet_id.toUpperCase();
  const received = await me.receive({ metadata, wallet_id });
  await me.sandbox('payments', { payment_request: received.data.payment_request });
  await me.ended(received.id);
  await me.receive({ payment_kind: 'bip21', metadata });
  const invoice = await me.outsideInvoice({ amount_msats: 1000 });
  await me.send({ payment_request: invoice.payment_request, max_fee_msats: 100 }, { metadata });
  const dear = await me.outsideInvoice({ amount_msats: 500_000_000 });
  const failed = await me.send({ payment_request: dear.payment_request, max_fee_msats: 100 });
  assert.equal(failed.status, 'failed');
  const rows = await server.db.query<Payment & { stored: string; told: string }>(
    `SELECT e.payment::text AS stored, e.type || '.' || e.event AS told, p.*
     FROM events e CROSS JOIN LATERAL json_populate_record(NULL::payments, e.payment) p ORDER BY e.seq`,
  );
  assert.ok(rows.length >= 9, `${rows.length} events`);
  for (const { stored, told, ...payment } of rows)
    assert.equal(
      stringifyJson(paymentView(storedPayment(stored))),
      stringifyJson(paymentView(payment)),
      told,
    );
});
