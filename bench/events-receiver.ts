import { createServer, request, type ClientRequest } from 'node:http';

/** What came since the last reset. */
export interface Told {
  count: number;
  latencies_ms: number[];
}
type Question = { reset: true } | { told: true } | { open: number; url: string; api_key: string };

// The other side of bench/events.ts: a receiver of webhooks, and a reader of streams. An event
// carries the database's clock at its insert, a moment before its commit.
let count = 0;
let latencies_ms: number[] = [];
let streams: ClientRequest[] = [];

const server = createServer((incoming, response) => {
  incoming.on('data', hear);
  incoming.on('end', () => {
    response.writeHead(200).end();
    count += 1;
  });
});

/** Finds when the events in a piece of text were written. */
function hear(chunk: Buffer): void {
  const now_ms = performance.timeOrigin + performance.now();
  for (const [, text] of chunk.toString('latin1').matchAll(/"bench_at_ms":"([\d.]+)"/g))
    latencies_ms.push(now_ms - Number(text));
}

async function open(url: string, api_key: string): Promise<ClientRequest> {
  return new Promise((done, fail) => {
    const stream = request(
      url,
      { headers: { accept: 'text/event-stream', 'x-api-key': api_key }, agent: false },
      (answer) => {
        if (answer.statusCode !== 200) return fail(new Error(`a stream answers ${answer.statusCode}`));
        answer.on('data', hear);
        answer.on('error', () => {});
        done(stream);
      },
    );
    stream.on('error', fail);
    stream.end();
  });
}

async function answer(question: Question): Promise<object> {
  if ('reset' in question) {
    count = 0;
    latencies_ms = [];
  } else if ('open' in question) {
    for (const stream of streams) stream.destroy();
    streams = [];
    while (streams.length < question.open) {
      const batch = Array.from({ length: Math.min(20, question.open - streams.length) });
      streams.push(...(await Promise.all(batch.map(() => open(question.url, question.api_key)))));
    }
  }
  return { count, latencies_ms };
}

process.on('message', (question: Question) => {
  void answer(question).then((told) => process.send?.(told));
});
server.listen(0, '127.0.0.1', () => process.send?.(server.address()));
