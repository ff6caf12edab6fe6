import { rowsParameter, type Sql } from '../core/db.ts';
import { timeText, type Clock } from '../core/clock.ts';
import type { WalletAccount, WalletRef } from '../ledger/ledger.ts';

// How much a wallet has sent lately. Only wallets with a policy that asks for it pay for the answer: sends of the
// last minute are counted in an index, those of a day are added up from one row per minute (`send_minutes`).

/** Sends that were held in the last 60 s, and msats of those of the last 24 h that did not fail. */
export interface Usage {
  sends: bigint;
  volume: bigint;
}

/** A held send. `held_at` is RFC 3339, UTC, as all times here. */
export interface CountedSend extends WalletRef {
  held_at: string;
  amount: bigint;
}

const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;
// A failed send is taken off its minute: minutes stay somewhat longer than they count.
const KEPT_MS = DAY_MS + 60 * MINUTE_MS;

/** The minute that a time is in, as its row names it; times are text of one form, so the beginning is enough. */
const minuteOf = (time: string): string => `${time.slice(0, 16)}:00.000000Z`;
const walletKey = ({ organization_id, id }: WalletRef): string => `${organization_id}/${id}`;

/** Moments before `now`; the whole minutes of the day before it begin at `whole_from`. */
function windowsAt(now: string): { minute_ago: string; day_ago: string; whole_from: string } {
  const microseconds = Number(now.slice(23, 26));
  const now_ms = Date.parse(now);
  const day_ago = timeText(now_ms - DAY_MS, microseconds);
  return {
    minute_ago: timeText(now_ms - MINUTE_MS, microseconds),
    day_ago,
    whole_from: timeText(Date.parse(minuteOf(day_ago)) + MINUTE_MS),
  };
}

/** Sends of a wallet by when they were held: its own rows by creation, and the checks that became payments. */
const sendsHeld = (
  wallet: { organization_id: string; id: string },
  when: (time: string) => string,
): string => `
  SELECT p.amount, p.state, p.created_at AS held_at FROM payments p
  WHERE p.organization_id = ${wallet.organization_id} AND p.wallet_id = ${wallet.id} AND ${when('p.created_at')}
    AND p.promoted_at IS NULL AND p.direction = 'send' AND p.hold_id IS NOT NULL
  UNION ALL
  SELECT p.amount, p.state, p.promoted_at FROM payments p
  WHERE p.organization_id = ${wallet.organization_id} AND p.wallet_id = ${wallet.id} AND ${when('p.promoted_at')}
    AND p.promoted_at IS NOT NULL AND p.hold_id IS NOT NULL`;

const ROW = { organization_id: 'r.organization_id', id: 'r.id' };
/** Of wallets (JSON), since a minute and a day ago, and since the first whole minute of that day. */
export const READ_USAGE = `
  SELECT r.organization_id, r.id,
    CASE WHEN r.velocity THEN (SELECT count(*) FROM (${sendsHeld(ROW, (time) => `${time} > $2`)}) s) ELSE 0 END AS sends,
    CASE WHEN r.volume THEN
      coalesce((SELECT sum(m.amount) FROM send_minutes m
        WHERE m.organization_id = r.organization_id AND m.wallet_id = r.id AND m.minute >= $4), 0)
      + coalesce((SELECT sum(s.amount) FROM (${sendsHeld(ROW, (time) => `${time} > $3 AND ${time} < $4`)}) s
        WHERE s.state <> 'failed'), 0)
    ELSE 0 END::text AS volume
  FROM json_to_recordset($1) AS r(organization_id uuid, id uuid, velocity boolean, volume boolean)`;

interface SendMinute {
  organization_id: string;
  wallet_id: string;
  minute: string;
  amount: bigint;
}

/** What the wallets of one batch have sent, with what the batch itself adds and takes off. */
export function createUsages() {
  const usages = new Map<string, Usage>();
  const added = new Map<string, SendMinute>();
  const given_back = new Map<string, SendMinute>();

  function put(into: typeof added, account: WalletAccount, send: CountedSend): void {
    if (account.send_volume === null) return;
    const minute = minuteOf(send.held_at);
    const key = `${walletKey(send)}/${minute}`;
    const amount = (into.get(key)?.amount ?? 0n) + send.amount;
    into.set(key, { organization_id: send.organization_id, wallet_id: send.id, minute, amount });
  }

  return {
    /** Reads it for those of these locked accounts whose policies ask for it. */
    async load(sql: Sql, accounts: readonly WalletAccount[], now: string): Promise<void> {
      const asked = accounts
        .map(({ organization_id, id, sends_per_minute, send_volume }) => ({
          organization_id,
          id,
          velocity: sends_per_minute !== null,
          volume: send_volume !== null,
        }))
        .filter(({ velocity, volume }) => velocity || volume);
      if (asked.length === 0) return;
      const { minute_ago, day_ago, whole_from } = windowsAt(now);
      const rows = await sql.query<WalletRef & { sends: bigint; volume: string }>(
        READ_USAGE,
        [rowsParameter(asked), minute_ago, day_ago, whole_from],
        'read usage',
      );
      for (const { sends, volume, ...ref } of rows)
        usages.set(walletKey(ref), { sends, volume: BigInt(volume) });
    },
    /** Nothing sent, for a wallet whose policies do not ask. */
    of: (account: WalletAccount): Usage => usages.get(walletKey(account)) ?? { sends: 0n, volume: 0n },
    /** A send was held, now. */
    add(account: WalletAccount, send: CountedSend): void {
      // The next command of this batch on the same wallet is judged with it, before any of it is written.
      const usage = usages.get(walletKey(account));
      if (usage) {
        usage.sends += 1n;
        usage.volume += send.amount;
      }
      put(added, account, send);
    },
    /** A send that was held failed: its amount counts no more. */
    giveBack: (account: WalletAccount, send: CountedSend): void => put(given_back, account, send),
    /** Under the locks of the accounts, beside the payments that it counts: with them, or not at all. */
    flush: (sql: Sql): Promise<unknown> =>
      Promise.all([putMinutes(sql, [...added.values()]), takeOffMinutes(sql, [...given_back.values()])]),
  };
}

async function putMinutes(sql: Sql, rows: readonly object[]): Promise<void> {
  if (rows.length === 0) return;
  await sql.query(
    `INSERT INTO send_minutes AS m (organization_id, wallet_id, minute, amount)
     SELECT organization_id, wallet_id, minute, amount FROM json_populate_recordset(NULL::send_minutes, $1)
     ON CONFLICT (organization_id, wallet_id, minute) DO UPDATE SET amount = m.amount + excluded.amount`,
    [rowsParameter(rows)],
    'put send minutes',
  );
}

/** A minute that is gone counts no more, so there is nothing to take off. */
async function takeOffMinutes(sql: Sql, rows: readonly object[]): Promise<void> {
  if (rows.length === 0) return;
  await sql.query(
    `UPDATE send_minutes m SET amount = m.amount - r.amount FROM json_populate_recordset(NULL::send_minutes, $1) r
     WHERE m.organization_id = r.organization_id AND m.wallet_id = r.wallet_id AND m.minute = r.minute`,
    [rowsParameter(rows)],
    'take off send minutes',
  );
}

const WALLET = { organization_id: '$1', id: '$2' };

/** Begins to keep a wallet's minutes, with what it sent in the day before. Its account is locked. */
export async function keepMinutes(sql: Sql, wallet: WalletRef, now: string): Promise<void> {
  await forgetMinutes(sql, wallet);
  const from = minuteOf(windowsAt(now).day_ago);
  await sql.query(
    `INSERT INTO send_minutes (organization_id, wallet_id, minute, amount)
     SELECT $1, $2, date_trunc('minute', held_at), sum(amount)
     FROM (${sendsHeld(WALLET, (time) => `${time} >= $3`)}) s WHERE state <> 'failed' GROUP BY 3`,
    [wallet.organization_id, wallet.id, from],
    'keep send minutes',
  );
}

/** Drops a wallet's minutes: it has no volume policy any more. Its account is locked. */
export async function forgetMinutes(sql: Sql, wallet: WalletRef): Promise<void> {
  await sql.query(
    'DELETE FROM send_minutes WHERE organization_id = $1 AND wallet_id = $2',
    [wallet.organization_id, wallet.id],
    'forget send minutes',
  );
}

/** Removes minutes that count no more, of all wallets. */
export async function sweepMinutes(sql: Sql, clock: Clock): Promise<void> {
  await sql.query('DELETE FROM send_minutes WHERE minute < $1', [timeText(clock.now() - KEPT_MS)]);
}
