import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

/** CPU seconds used so far by the server, by PostgreSQL and by this process, from Linux's /proc. */
export interface CpuSeconds {
  server: number;
  database: number;
  client: number;
}

const TICKS_PER_SECOND = 100;

/** Own time and that of children that were waited for: backends that ended count with the postmaster. */
function secondsOf(pid: string): { parent: string; seconds: number } | null {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ');
    const ticks = [11, 12, 13, 14].reduce((sum, index) => sum + Number(fields[index]), 0);
    return { parent: fields[1] ?? '', seconds: ticks / TICKS_PER_SECOND };
  } catch {
    return null;
  }
}

export function readCpu(server_pid: number, postmaster_pid: string): CpuSeconds {
  let database = 0;
  for (const pid of idsOfProcesses()) {
    const found = secondsOf(pid);
    if (found && (pid === postmaster_pid || found.parent === postmaster_pid)) database += found.seconds;
  }
  const own = process.cpuUsage();
  return {
    server: secondsOf(String(server_pid))?.seconds ?? 0,
    database,
    client: (own.user + own.system) / 1e6,
  };
}

const idsOfProcesses = (): string[] => readdirSync('/proc').filter((name) => /^\d+$/.test(name));
const childrenOf = (parents: readonly string[]): string[] =>
  idsOfProcesses().filter((pid) => parents.includes(secondsOf(pid)?.parent ?? ''));

/** CPU seconds of this process's living children, but for these: the nodes of a network that it runs. */
export const secondsOfChildren = (except: readonly string[]): number =>
  childrenOf([String(process.pid)])
    .filter((pid) => !except.includes(pid))
    .reduce((sum, pid) => sum + (secondsOf(pid)?.seconds ?? 0), 0);

/** Puts these of this process's children with all that they start, and this process, on one core; the others on another. */
export function setApart(together: readonly string[]): void {
  const pin = (pid: string, core: number): void =>
    void execFileSync('taskset', ['--all-tasks', '--cpu-list', '--pid', String(core), pid], {
      stdio: 'ignore',
    });
  const own = [String(process.pid), ...together];
  for (const pid of [...own, ...childrenOf(together)]) pin(pid, 1);
  for (const pid of childrenOf([String(process.pid)])) if (!together.includes(pid)) pin(pid, 0);
}
