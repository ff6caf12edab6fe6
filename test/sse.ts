import { request, type IncomingMessage } from 'node:http';
import { GIVE_UP_MS } from './wait.ts';

export interface Frame {
  id: string;
  event: string;
  data: { type: string; detail: { event: string; data: { id: string; wallet_id: string; status: string } } };
}

export interface EventStream {
  status: number;
  headers: IncomingMessage['headers'];
  frames: Frame[];
  /** The last id of any block, also of one that tells nothing: where a client resumes. */
  last_id: string;
  /** Comments: heartbeats. */
  comments: number;
  ended: boolean;
  until(reached: () => boolean, what: string): Promise<void>;
  /** Reads no more: what the server sends stays in the sockets. */
  pause(): void;
  resume(): void;
  close(): void;
  /** The body of an answer that is no stream. */
  text: string;
}

/** Reads Server-Sent Events as their specification says; resolves when the headers are there. */
export function openStream(url: string, headers: Record<string, string>): Promise<EventStream> {
  return new Promise((done, fail) => {
    const sent = request(
      url,
      { headers: { accept: 'text/event-stream', ...headers }, agent: false },
      (answer) => {
        let rest = '';
        const stream: EventStream = {
          status: answer.statusCode ?? 0,
          headers: answer.headers,
          frames: [],
          last_id: '',
          comments: 0,
          ended: false,
          text: '',
          async until(reached, what) {
            const give_up_at = Date.now() + GIVE_UP_MS;
            while (!reached()) {
              if (Date.now() > give_up_at) {
                const { frames, ended } = stream;
                throw new Error(
                  `${what}: did not come; ${frames.length} frames, ${ended ? 'ended' : 'open'}`,
                );
              }
              await new Promise((turn) => setTimeout(turn, 5));
            }
          },
          pause: () => answer.pause(),
          resume: () => answer.resume(),
          close: () => sent.destroy(),
        };
        answer.setEncoding('utf8');
        answer.on('data', (chunk: string) => {
          if (stream.status !== 200) stream.text += chunk;
          const blocks = (rest + chunk).split('\n\n');
          rest = blocks.pop() ?? '';
          for (const block of blocks) read(stream, block);
        });
        const end = (): void => void (stream.ended = true);
        answer.on('end', end).on('close', end).on('error', end);
        done(stream);
      },
    );
    sent.on('error', fail);
    sent.end();
  });
}

function read(stream: EventStream, block: string): void {
  const fields = new Map<string, string>();
  for (const line of block.split('\n')) {
    if (line.startsWith(':')) stream.comments += 1;
    else fields.set(line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2));
  }
  stream.last_id = fields.get('id') ?? stream.last_id;
  const data = fields.get('data');
  if (data === undefined) return;
  stream.frames.push({
    id: fields.get('id') ?? '',
    event: fields.get('event') ?? '',
    data: JSON.parse(data) as Frame['data'],
  });
}
