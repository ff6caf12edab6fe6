import { createHash } from 'node:crypto';
import { timeText, type Clock } from './clock.ts';
import type { Database } from './db.ts';
import { ApiError } from './errors.ts';
import { isSealed, type Vault } from './vault.ts';

/** What was answered, to be answered again. */
export interface Answer {
  status: number;
  body: string;
}

/** What identifies a request: the same method, path and body bytes are the same request. */
export interface IdempotentRequest {
  organization_id: string;
  key_id: string;
  key: string;
  method: string;
  path: string;
  body: string;
  /** The answer holds a secret: it is stored sealed. */
  secret: boolean;
}

const KEPT_MS = 24 * 3_600_000;
/** How long a request waits for its twin that still runs. */
const TWIN_WAIT_MS = 10_000;
const TWIN_POLL_MS = 50;
/** A reservation without an answer this old belongs to a process that died. */
const ABANDONED_MS = 30_000;
const STORED = new Set([400, 404, 409]);
const SWEEP_LIMIT = 10_000;

const stored = (status: number): boolean => (status >= 200 && status < 300) || STORED.has(status);

/** Where idempotency keys are kept (semantics.md, "Replays"), per API key. */
export interface IdempotencyDeps {
  db: Database;
  clock: Clock;
  vault: Vault;
}

const KEY = 'organization_id = $1 AND api_key_id = $2 AND key = $3';

async function reserve({ db, clock }: IdempotencyDeps, id: string[], hash: Buffer): Promise<boolean> {
  const rows = await db.query(
    `INSERT INTO idempotency_keys AS k (organization_id, api_key_id, key, request_hash, created_at)
     VALUES ($1, $2, $3, $4, $5)
     ON CONFLICT (organization_id, api_key_id, key) DO UPDATE
       SET request_hash = excluded.request_hash, status = NULL, body = NULL, created_at = excluded.created_at
       WHERE k.created_at < $6 OR (k.status IS NULL AND k.request_hash = excluded.request_hash AND k.created_at < $7)
     RETURNING 1`,
    [...id, hash, ...[0, KEPT_MS, ABANDONED_MS].map((age_ms) => timeText(clock.now() - age_ms))],
    'reserve idempotency key',
  );
  return rows.length > 0;
}

async function answerOfTwin(
  { db, vault }: IdempotencyDeps,
  id: string[],
  hash: Buffer,
): Promise<Answer | null> {
  const [row] = await db.query<{ request_hash: Buffer; status: number | null; body: string | null }>(
    `SELECT request_hash, status, body FROM idempotency_keys WHERE ${KEY}`,
    id,
    'read idempotency key',
  );
  if (!row) return null;
  if (!row.request_hash.equals(hash)) {
    throw new ApiError('invalid_data', 'Idempotency-Key was used for another request', { status: 422 });
  }
  if (row.status === null) return null;
  const body = row.body ?? '';
  return { status: row.status, body: isSealed(body) ? vault.open(body, id.join('/')) : body };
}

/** Reserves the key, or waits for the answer of the request that has it. */
async function reserveOrWait(deps: IdempotencyDeps, id: string[], hash: Buffer): Promise<Answer | null> {
  const give_up_at = performance.now() + TWIN_WAIT_MS;
  while (!(await reserve(deps, id, hash))) {
    const answer = await answerOfTwin(deps, id, hash);
    if (answer) return answer;
    if (performance.now() > give_up_at) {
      throw new ApiError('temporarily_unavailable', 'the first request with this Idempotency-Key still runs');
    }
    await new Promise((resolve) => setTimeout(resolve, TWIN_POLL_MS));
  }
  return null;
}

/** Runs the request once per key; a repetition gets the stored answer. A 5xx is never stored. */
export async function answerOnce(
  deps: IdempotencyDeps,
  request: IdempotentRequest,
  run: () => Promise<Answer>,
): Promise<Answer> {
  const { db, vault } = deps;
  const id = [request.organization_id, request.key_id, request.key];
  const hash = createHash('sha256')
    .update(`${request.method}\0${request.path}\0`)
    .update(request.body)
    .digest();
  const earlier = await reserveOrWait(deps, id, hash);
  if (earlier) return earlier;
  const forget = () => db.query(`DELETE FROM idempotency_keys WHERE ${KEY}`, id, 'forget idempotency key');
  let answer: Answer;
  try {
    answer = await run();
  } catch (error) {
    await forget().catch(() => {});
    throw error;
  }
  if (stored(answer.status)) {
    await db.query(
      `UPDATE idempotency_keys SET status = $4, body = $5 WHERE ${KEY}`,
      [...id, answer.status, request.secret ? vault.seal(answer.body, id.join('/')) : answer.body],
      'store idempotent answer',
    );
  } else {
    await forget();
  }
  return answer;
}

/** Removes answers that are older than a day. */
export async function sweepIdempotencyKeys(db: Database, clock: Clock): Promise<void> {
  await db.query(
    `DELETE FROM idempotency_keys WHERE (organization_id, api_key_id, key) IN (
       SELECT organization_id, api_key_id, key FROM idempotency_keys WHERE created_at < $1 LIMIT ${SWEEP_LIMIT})`,
    [timeText(clock.now() - KEPT_MS)],
    'sweep idempotency keys',
  );
}
