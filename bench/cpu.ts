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
  const processes = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  let database = 0;
  for (const pid of processes) {
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

/** CPU seconds of this process's living children, but for these: the nodes of a network that it runs. */
export function secondsOfChildren(except: readonly string[]): number {
  const processes = readdirSync('/proc').filter((name) => /^\d+$/.test(name) && !except.includes(name));
  const children = processes.flatMap((pid) => secondsOf(pid) ?? []);
  return children
    .filter(({ parent }) => parent === String(process.pid))
    .reduce((sum, { seconds }) => sum + seconds, 0);
}
