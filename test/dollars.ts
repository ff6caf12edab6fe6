import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import type { actor, Shown } from './actor.ts';
import type { TestServer } from './fixtures.ts';

export interface Quoted {
  id: string;
  quote: { type: string; detail: { from: string; to: string; rate: string } } | null;
  created_at: string | null;
  consumed_at: string | null;
  expires_at: string | null;
  failed_at: string | null;
  wallet_id: string | null;
  error: { type: string } | null;
}

export interface Money {
  currency: string;
  amount: number;
}
const usd = (amount: number): Money => ({ currency: 'usd', amount });
const btc = (amount: number): Money => ({ currency: 'btc', amount });

/** What a client does that keeps dollars, over HTTP. */
export function dollars(server: TestServer, me: ReturnType<typeof actor>) {
  const { credentials, client } = server;
  assert.ok(credentials.usd, 'the sandbox brings a wallet of dollars');
  const { line_of_credit_id, wallet_id } = credentials.usd;

  async function setRate(rate: string | null): Promise<void> {
    const answer = await client.request('PUT', `${me.base}/sandbox/rate`, { body: { rate } });
    assert.equal(answer.status, 200, answer.text);
  }
  const askQuote = (amount: Money, to: string, fields: object = {}) => {
    const id = randomUUID();
    const body = { id, line_of_credit_id, network: credentials.network, amount, to, ...fields };
    return client.request('POST', `${me.base}/quotes`, { body }).then((answer) => ({ id, answer }));
  };
  async function readQuote(id: string): Promise<Quoted> {
    const answer = await client.request('GET', `${me.base}/quotes/${id}`);
    assert.equal(answer.status, 200, answer.text);
    return answer.body as Quoted;
  }
  async function quote(amount: Money, to: string, fields: object = {}): Promise<string> {
    const { id, answer } = await askQuote(amount, to, fields);
    assert.equal(answer.status, 202, answer.text);
    assert.notEqual((await readQuote(id)).quote, null);
    return id;
  }
  /** A receive of cents, at a quote of its own unless one is given; payable when it answers. */
  async function receive(cents: number, fields: object = {}): Promise<Shown> {
    const quote_id = await quote(usd(cents), 'btc');
    return me.receive({ wallet_id, quote_id, amount: usd(cents), ...fields });
  }
  /** Pays msats from dollars at a quote of its own; waits for the end. */
  async function pay(msats: number, data: object, fields: object = {}): Promise<Shown> {
    const quote_id = await quote(btc(msats), 'usd');
    const body = { amount: btc(msats), ...data };
    return me.send(body, { wallet_id, currency: 'usd', quote_id, ...fields });
  }
  return {
    line_of_credit_id,
    wallet_id,
    setRate,
    askQuote,
    readQuote,
    quote,
    receive,
    pay,
    usd,
    btc,
    /** Puts cents into the wallet as an outside payer would. */
    async fund(cents: number): Promise<void> {
      const payment = await receive(cents);
      await me.sandbox('payments', { payment_request: payment.data.payment_request });
      assert.equal((await me.ended(payment.id)).status, 'completed');
    },
    async newWallet(): Promise<string> {
      const id = randomUUID();
      const body = {
        id,
        environment_id: credentials.environment_id,
        line_of_credit_id,
        name: 'more dollars',
        network: credentials.network,
        limit: 0,
      };
      const path = `/organizations/${credentials.organization_id}/wallets`;
      const answer = await client.request('POST', path, { body });
      assert.equal(answer.status, 202, answer.text);
      return id;
    },
  };
}
