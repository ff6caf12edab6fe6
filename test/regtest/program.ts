import { spawn, type ChildProcess } from 'node:child_process';
import { createWriteStream } from 'node:fs';

/** A program of the network, running. */
export interface Program {
  process: ChildProcess;
  /** Sends a signal and waits for the end. */
  end(signal: NodeJS.Signals): Promise<void>;
}

const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** Starts a program; what it prints goes into a file. It never outlives this process. */
export function startProgram(path: string, args: string[], log_file: string): Program {
  const log = createWriteStream(log_file, { flags: 'a' });
  const child = spawn(path, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  child.stdout.pipe(log);
  child.stderr.pipe(log);
  running.add(child);
  const gone = new Promise<void>((done) => child.once('exit', () => done()));
  void gone.then(() => running.delete(child));
  return {
    process: child,
    async end(signal) {
      if (child.exitCode === null && child.signalCode === null) child.kill(signal);
      await gone;
    },
  };
}
