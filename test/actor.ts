import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import type { TestServer } from './fixtures.ts';
import { GIVE_UP_MS, growingPause } from './wait.ts';

/** A payment as the API shows it, as far as tests look into it. */
export interface Shown {
  id: string;
  status: string;
  direction: string;
  type: string;
  currency: string;
  created_at: string;
  updated_at: string;
  metadata?: Record<string, string>;
  requested_amount?: { amount: number };
  bip21_uri?: string;
  error: { type: string; code?: string; detail: string; context?: unknown } | null;
  frozen?: { type: string; data: { tx_id: string; amount_sats: number } }[];
  data: {
    payment_request?: string;
    address?: string;
    amount: { amount: number; currency: string; unit: string };
    amount_msats?: number;
    amount_sats?: number;
    max_fee?: { amount: number };
    fees?: { amount: number } | null;
    fee_msats?: number | null;
    fee_sats?: number | null;
    memo?: string | null;
    outflows?: Settlement[];
    receipts?: Settlement[];
  };
}
interface Settlement {
  type: string;
  data: {
    payment_hash?: string;
    preimage?: string;
    tx_id?: string;
    amount_sats?: number;
    amount_msats?: number;
    offset_payment_id?: string;
    ledger_id?: string;
    is_pending?: boolean;
  };
}

export interface WalletShown {
  id: string;
  active: boolean;
  balances: {
    available: { amount: number; negative: boolean };
    total: { amount: number; negative: boolean };
  }[];
  holds: { id: string; amount: { amount: number } }[];
}

const TERMINAL = ['completed', 'failed', 'expired'];
const pathOf = ({ organization_id, environment_id }: TestServer['credentials']) =>
  `/organizations/${organization_id}/environments/${environment_id}`;

/** What a path answers; anything but 200 fails. */
async function read<T>({ client }: TestServer, path: string): Promise<T> {
  const answer = await client.request('GET', path);
  assert.equal(answer.status, 200, answer.text);
  return answer.body as T;
}

/** Making payments and following them. */
function paymentsOf(server: TestServer, wait_ms: number) {
  const path = `${pathOf(server.credentials)}/payments`;
  const create = (body: object) => server.client.request('POST', path, { body });
  async function accept(body: { id: string }): Promise<string> {
    const answer = await create(body);
    assert.equal(answer.status, 202, answer.text);
    assert.equal(answer.text, '');
    return body.id;
  }
  /** Null where there is no such payment. */
  async function find(id: string): Promise<Shown | null> {
    const answer = await server.client.request('GET', `${path}/${id}`);
    if (answer.status === 404) return null;
    assert.equal(answer.status, 200, answer.text);
    return answer.body as Shown;
  }
  async function get(id: string): Promise<Shown> {
    const payment = await find(id);
    assert.ok(payment, `payment ${id} exists`);
    return payment;
  }
  async function until(id: string, reached: (payment: Shown) => boolean): Promise<Shown> {
    const give_up_at = Date.now() + wait_ms;
    const pause = growingPause();
    for (;;) {
      const payment = await get(id);
      if (reached(payment)) return payment;
      assert.ok(Date.now() < give_up_at, `payment ${id} stays ${payment.status}`);
      await pause();
    }
  }
  return {
    create,
    accept,
    find,
    get,
    until,
    ended: (id: string) => until(id, (payment) => TERMINAL.includes(payment.status)),
    payable: (id: string) => until(id, (payment) => payment.status !== 'generating'),
    async history(id: string): Promise<string[]> {
      const { events } = await read<{ events: { event_type: string; position: number }[] }>(
        server,
        `${path}/${id}/history`,
      );
      assert.deepEqual(
        events.map(({ position }) => position),
        events.map((_event, index) => index + 1),
        'positions from 1 without gaps',
      );
      return events.map(({ event_type }) => event_type);
    },
  };
}

/** The outside of the sandbox network. */
function sandboxOf({ client, credentials }: TestServer) {
  const path = `${pathOf(credentials)}/sandbox`;
  async function sandbox<T = Record<string, unknown>>(what: string, body: object = {}): Promise<T> {
    const answer = await client.request('POST', `${path}/${what}`, { body });
    assert.equal(answer.status, 200, answer.text);
    return answer.body as T;
  }
  return {
    sandbox,
    outsideInvoice: (fields: object) =>
      sandbox<{ payment_request: string; payment_hash: string }>('invoices', fields),
    /** Ends a stuck send; waits for its hand-over to the node, which may still be under way. */
    async release(payment_hash: string, outcome: 'settle' | 'fail'): Promise<void> {
      const give_up_at = Date.now() + GIVE_UP_MS;
      const pause = growingPause();
      for (;;) {
        const answer = await client.request('POST', `${path}/release`, { body: { payment_hash, outcome } });
        if (answer.status === 200) return;
        assert.ok(Date.now() < give_up_at, `${payment_hash} never came into flight`);
        await pause();
      }
    },
  };
}

/** Wallets and what is in them. */
function walletsOf(server: TestServer) {
  const { organization_id, environment_id, wallet_id, line_of_credit_id, network } = server.credentials;
  const path = `/organizations/${organization_id}/wallets`;
  const wallet = (id = wallet_id) => read<WalletShown>(server, `${path}/${id}`);
  return {
    wallet,
    /** available and total of a wallet, signed. */
    async balance(id = wallet_id): Promise<{ available: number; total: number; holds: number }> {
      const { balances, holds } = await wallet(id);
      const [balance] = balances;
      assert.ok(balance, 'a balance row exists');
      const signed = ({ amount, negative }: { amount: number; negative: boolean }) =>
        negative ? -amount : amount;
      return { available: signed(balance.available), total: signed(balance.total), holds: holds.length };
    },
    async newWallet(limit = 0): Promise<string> {
      const id = randomUUID();
      const body = { id, environment_id, line_of_credit_id, name: 'another', network, limit };
      const answer = await server.client.request('POST', path, { body });
      assert.equal(answer.status, 202, answer.text);
      return id;
    },
    async ledger(id = wallet_id, query = '') {
      const { items } = await read<{
        items: { type: string; payment_id?: string; amount?: { amount: number } }[];
      }>(server, `${path}/${id}/ledger${query}`);
      return items;
    },
  };
}

/** What a client of one environment does, over HTTP; every answer is validated by the client beneath. */
export function actor(server: TestServer, wait_ms = GIVE_UP_MS) {
  const { wallet_id } = server.credentials;
  const payments = paymentsOf(server, wait_ms);
  const { accept, ended, payable } = payments;
  const outside = sandboxOf(server);

  const receive = async (fields: object = {}): Promise<Shown> => {
    const amount = { currency: 'btc', amount: 150_000 };
    return payable(
      await accept({ id: randomUUID(), wallet_id, payment_kind: 'bolt11', amount, ...fields } as {
        id: string;
      }),
    );
  };
  const sendBody = (data: object, fields: object = {}) => ({
    id: randomUUID(),
    wallet_id,
    currency: 'btc',
    type: 'bolt11',
    data,
    ...fields,
  });
  return {
    base: pathOf(server.credentials),
    ...payments,
    ...outside,
    ...walletsOf(server),
    receive,
    sendBody,
    /** Sends and waits for the end. */
    send: async (data: object, fields: object = {}): Promise<Shown> =>
      ended(await accept(sendBody(data, fields))),
    /** Puts money into the wallet as an outside payer would. */
    async fund(amount_msats: number, wallet = wallet_id): Promise<void> {
      const payment = await receive({ wallet_id: wallet, amount: { currency: 'btc', amount: amount_msats } });
      await outside.sandbox('payments', { payment_request: payment.data.payment_request });
      assert.equal((await ended(payment.id)).status, 'completed');
    },
  };
}
