import assert from 'node:assert/strict';
import { actor, type Shown } from './actor.ts';
import { newTenant, type TestServer } from './fixtures.ts';
import { withKey } from './tenant.ts';

export interface Counted {
  total_count: number;
  oldest_created_at: string | null;
  newest_created_at: string | null;
}
interface BucketShown extends Counted {
  direction: string;
  status: string;
  currency: string;
  kind: string;
}
interface LineShown extends Counted {
  buckets: BucketShown[];
}
interface EnvironmentShown extends Counted {
  by_organization_id: Record<string, Counted>;
  by_environment_id: Record<string, Counted>;
  by_line_of_credit_id: Record<string, LineShown>;
}
type Item = Shown & { wallet_id: string; line_of_credit_id?: string };

/** A tenant of its own, so that no test counts the payments of another. */
export async function newcomer(on: TestServer) {
  const tenant = await newTenant(on.db);
  const client = withKey(on.client, tenant.api_key);
  const me = actor({ ...on, credentials: tenant, client });
  const ask = async <T>(path: string): Promise<T> => {
    const answer = await client.request('GET', path);
    assert.equal(answer.status, 200, answer.text);
    return answer.body as T;
  };
  const wallets = `/organizations/${tenant.organization_id}/wallets`;
  return {
    ...tenant,
    client,
    me,
    wallets,
    summary: (query = '') => ask<EnvironmentShown>(`${me.base}/payments/summary?${query}`),
    ofWallet: (id = tenant.wallet_id, query = '') =>
      ask<LineShown>(`${wallets}/${id}/payments/summary?${query}`),
    listed: async (query = ''): Promise<Item[]> =>
      (await ask<{ items: Item[] }>(`${me.base}/payments?limit=1000&${query}`)).items,
    async remove(wallet_id: string): Promise<void> {
      const answer = await client.request('DELETE', `${wallets}/${wallet_id}`);
      assert.equal(answer.status, 202, answer.text);
    },
  };
}

/** What a summary must show of payments that a list shows. */
export const countOf = (items: readonly { created_at: string }[]): Counted => {
  const times = items.map(({ created_at }) => created_at).sort();
  return {
    total_count: items.length,
    oldest_created_at: times[0] ?? null,
    newest_created_at: times.at(-1) ?? null,
  };
};
const keyOf = ({ direction, status, currency, kind }: Omit<BucketShown, keyof Counted>): string =>
  [direction, currency, kind, status].join(' ');
/** The same by sort. */
export const bucketsOf = (items: readonly Item[]): BucketShown[] =>
  [...Map.groupBy(items, (item) => keyOf({ ...item, kind: item.type }))]
    .map(([, own]) => {
      const [{ direction, status, currency, type } = {} as Item] = own;
      return { direction, status, currency, kind: type, ...countOf(own) };
    })
    .sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));

/** Payments of every kind and end, in two wallets. */
export async function everyKind(tenant: Awaited<ReturnType<typeof newcomer>>): Promise<string> {
  const { me } = tenant;
  await me.fund(1_000_000);
  const other = await me.newWallet(1000);
  const invoice = (fields: object) => me.outsideInvoice({ amount_msats: 10_000, ...fields });
  await me.send({ payment_request: (await invoice({})).payment_request });
  await me.send({ payment_request: (await invoice({ behavior: 'fail' })).payment_request });
  await me.accept(me.sendBody({ payment_request: (await invoice({ behavior: 'stuck' })).payment_request }));
  const inside = await me.receive({ wallet_id: other, amount: { currency: 'btc', amount: 7000 } });
  await me.send({ payment_request: inside.data.payment_request });
  await me.receive({ metadata: { order: '1', shop: 'a' } });
  await me.receive({ metadata: { order: '2', shop: 'a' }, wallet_id: other });
  await me.receive({ payment_kind: 'bip21', amount: { currency: 'btc', amount: 1_000_000 } });
  const short = { payment_kind: 'onchain', amount: { currency: 'btc', amount: 1_000_000 }, expiration: 1 };
  await me.ended((await me.receive(short)).id);
  return other;
}
