import { randomUUID } from 'node:crypto';
import { decodeInvoice } from '../src/lightning/bolt11.ts';
import { measure, type Load, type Measure } from './load.ts';

export interface Place {
  load: Load;
  organization_id: string;
  environment_id: string;
  line_of_credit_id: string;
  usd_line_of_credit_id: string;
  network: string;
  wallets: string[];
  usd_wallets: string[];
}

const CALLERS = 64;

const environment = ({ organization_id, environment_id }: Place): string =>
  `/organizations/${organization_id}/environments/${environment_id}`;

const times = (count: number): number[] => Array.from({ length: count }, (_, index) => index);

interface Listed {
  items: { id: string; data: { payment_request: string } }[];
  total: number;
}

async function listed(place: Place, query: string): Promise<Listed> {
  return JSON.parse(await place.load.call('GET', `${environment(place)}/payments?${query}`)) as Listed;
}

/** Resolves when no payment is in one of these states: what was accepted is finished. */
async function settled(place: Place, statuses: string): Promise<void> {
  for (;;) {
    const page = await listed(place, `pagination=cursor&limit=1&statuses[]=${statuses}`);
    if (page.items.length === 0) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const receiveBody = (wallet_id: string, amount: number) => ({
  id: randomUUID(),
  wallet_id,
  payment_kind: 'bolt11',
  amount: { currency: 'btc', amount },
  description: 'bench',
});

const sendBody = (wallet_id: string, payment_request: string) => ({
  id: randomUUID(),
  wallet_id,
  currency: 'btc',
  type: 'bolt11',
  data: { payment_request, max_fee: { currency: 'btc', amount: 0 } },
});

const walletAt = (place: Place, index: number): string => place.wallets[index % place.wallets.length] ?? '';
const usdWalletAt = (place: Place, index: number): string =>
  place.usd_wallets[index % place.usd_wallets.length] ?? '';

/** Receives: accepted, and counted once every one of them can be paid. */
function receivesMade(place: Place, count: number): Promise<Measure> {
  return measure(
    place.load,
    times(count),
    CALLERS,
    (index) =>
      place.load.call('POST', `${environment(place)}/payments`, receiveBody(walletAt(place, index), 1000)),
    () => settled(place, 'generating'),
  );
}

/** Receives end to end: made, read until payable, paid from outside, credited. */
function receivesPaid(place: Place, count: number): Promise<Measure> {
  return measure(place.load, times(count), CALLERS, async (index) => {
    const payment_request = await makeInvoice(place, walletAt(place, index), 1000);
    await place.load.call('POST', `${environment(place)}/sandbox/payments`, { payment_request });
  });
}

async function makeInvoice(
  place: Place,
  wallet_id: string,
  amount: number,
  dollars: object = {},
): Promise<string> {
  const body = { ...receiveBody(wallet_id, amount), ...dollars };
  await place.load.call('POST', `${environment(place)}/payments`, body);
  for (;;) {
    const text = await place.load.call('GET', `${environment(place)}/payments/${body.id}`);
    const { data } = JSON.parse(text) as { data: { payment_request: string | null } };
    if (data.payment_request !== null) return data.payment_request;
  }
}

/** Makes `count` of something with all callers at once. */
async function prepare<T>(place: Place, count: number, make: (index: number) => Promise<T>): Promise<T[]> {
  const made: T[] = [];
  await measure(place.load, times(count), CALLERS, async (index) => {
    made[index] = await make(index);
  });
  return made;
}

/** Sends to invoices of other wallets here, from `from(index)`, counted once all of them ended. */
async function internalSends(place: Place, count: number, from: (index: number) => string): Promise<Measure> {
  const invoices = await prepare(place, count, (index) =>
    makeInvoice(place, walletAt(place, index + 1), 1000),
  );
  return measure(
    place.load,
    times(count),
    CALLERS,
    (index) =>
      place.load.call('POST', `${environment(place)}/payments`, sendBody(from(index), invoices[index] ?? '')),
    () => settled(place, 'approved'),
  );
}

/** Sends to invoices of the sandbox's outside node, counted once all of them ended. */
async function sandboxSends(place: Place, count: number): Promise<Measure> {
  const invoices = await prepare(place, count, async () => {
    const text = await place.load.call('POST', `${environment(place)}/sandbox/invoices`, {
      amount_msats: 1000,
    });
    return (JSON.parse(text) as { payment_request: string }).payment_request;
  });
  return measure(
    place.load,
    times(count),
    CALLERS,
    (index) =>
      place.load.call(
        'POST',
        `${environment(place)}/payments`,
        sendBody(walletAt(place, index), invoices[index] ?? ''),
      ),
    () => settled(place, 'approved'),
  );
}

/** A quote on the line of dollars: cents to bitcoin, or msats to dollars. */
async function quote(
  place: Place,
  amount: { currency: string; amount: number },
  to: string,
): Promise<string> {
  const id = randomUUID();
  await place.load.call('POST', `${environment(place)}/quotes`, {
    id,
    line_of_credit_id: place.usd_line_of_credit_id,
    network: place.network,
    amount,
    to,
  });
  return id;
}

/** Sends from wallets of dollars at rates that were locked beforehand, counted once all of them ended. */
function quotedSends(
  place: Place,
  sends: readonly { payment_request: string; quote_id: string }[],
): Promise<Measure> {
  return measure(
    place.load,
    times(sends.length),
    CALLERS,
    (index) => {
      const { payment_request = '', quote_id } = sends[index] ?? {};
      const body = sendBody(usdWalletAt(place, index), payment_request);
      return place.load.call('POST', `${environment(place)}/payments`, {
        ...body,
        currency: 'usd',
        quote_id,
      });
    },
    () => settled(place, 'approved'),
  );
}

async function usdInternalSends(place: Place, count: number): Promise<Measure> {
  const sends = await prepare(place, count, async (index) => {
    const cents = { currency: 'usd', amount: 5 };
    const receive = { amount: cents, quote_id: await quote(place, cents, 'btc') };
    const payment_request = await makeInvoice(place, usdWalletAt(place, index + 1), 5, receive);
    const amount = Number(decodeInvoice(payment_request).amount_msats);
    return { payment_request, quote_id: await quote(place, { currency: 'btc', amount }, 'usd') };
  });
  return quotedSends(place, sends);
}

async function usdSandboxSends(place: Place, count: number): Promise<Measure> {
  const sends = await prepare(place, count, async () => {
    const amount_msats = 20_000;
    const text = await place.load.call('POST', `${environment(place)}/sandbox/invoices`, { amount_msats });
    const { payment_request } = JSON.parse(text) as { payment_request: string };
    return {
      payment_request,
      quote_id: await quote(place, { currency: 'btc', amount: amount_msats }, 'usd'),
    };
  });
  return quotedSends(place, sends);
}

/** A period with an odd beginning and end, in the middle of what is stored and over what is made now. */
function period(): string {
  const [start, end] = [Date.now() - 20 * 86_400_000, Date.now() + 60_000].map((ms) => new Date(ms + 4321));
  return `start_date=${start?.toISOString()}&end_date=${end?.toISOString()}`;
}

/** The reads, each for `count` requests. */
async function reads(place: Place, count: number): Promise<[string, Measure][]> {
  const recent = await listed(place, 'pagination=cursor&limit=1000');
  const ids = recent.items.map(({ id }) => id);
  const payments = `${environment(place)}/payments`;
  const wallet = (index: number) =>
    `/organizations/${place.organization_id}/wallets/${walletAt(place, index)}`;
  const get = (share: number, path: (index: number) => string) =>
    measure(place.load, times(Math.ceil(count * share)), CALLERS, (index) =>
      place.load.call('GET', path(index)),
    );
  return [
    ['GET payment', await get(1, (index) => `${payments}/${ids[index % ids.length]}`)],
    ['GET wallet', await get(1, wallet)],
    ['list of 100 by cursor', await get(0.2, () => `${payments}?pagination=cursor&limit=100`)],
    ['GET ledger (25)', await get(0.2, (index) => `${wallet(index)}/ledger?limit=25`)],
    ['payment summary', await get(0.1, () => `${payments}/summary`)],
    ['payment summary of a period', await get(0.1, () => `${payments}/summary?${period()}`)],
    ['wallet summary', await get(0.1, (index) => `${wallet(index)}/payments/summary`)],
    ['hot wallet summary of a period', await get(0.1, () => `${wallet(0)}/payments/summary?${period()}`)],
  ];
}

/** Everything, in order: name and figures of each scenario. */
export async function everything(
  place: Place,
  count: number,
  progress: (name: string) => void,
): Promise<[string, Measure][]> {
  const figures: [string, Measure][] = [];
  const run = async (name: string, work: () => Promise<Measure>): Promise<void> => {
    progress(name);
    figures.push([name, await work()]);
  };
  await run('receives made payable', () => receivesMade(place, count));
  await run('receives paid end to end', () => receivesPaid(place, Math.ceil(count / 2)));
  await run('internal sends, 1,000 wallets', () =>
    internalSends(place, count, (index) => walletAt(place, index)),
  );
  await run('internal sends, one hot wallet', () => internalSends(place, count, () => walletAt(place, 0)));
  await run('sandbox sends', () => sandboxSends(place, count));
  await run('quotes made', () =>
    measure(place.load, times(count), CALLERS, () => quote(place, { currency: 'usd', amount: 1000 }, 'btc')),
  );
  await run('USD internal sends, 1,000 wallets', () => usdInternalSends(place, count));
  await run('USD sandbox sends', () => usdSandboxSends(place, count));
  progress('reads');
  return [...figures, ...(await reads(place, count))];
}
