/** The pages of a TCP address, for anyone who can connect. Loads no schemas. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Clock } from '../../util/clock.js';
import type { ControlContext } from '../context/context.js';
import { answerHealth, answerReadiness } from '../context/health.js';
import { MetricsPage } from '../context/metrics.js';

export interface PageAnswer {
  readonly status: number;
  /** The Content-Type. */
  readonly type: string;
  readonly body: string | Buffer;
}

/** Makes the answer to a request; `query` is the text after the question mark. */
type Page = (query: string) => PageAnswer | Promise<PageAnswer>;

const METHODS = ['GET', 'HEAD'];

/** Returns a handler of requests, which answers 404 for any other path, 405 for any other method. */
export function servePages(context: ControlContext, clock: Clock) {
  const metrics = new MetricsPage(context, clock);
  const pages = new Map<string, Page>([
    ['/metrics', () => metrics.answer()],
    ['/healthz', answerHealth],
    ['/readyz', (query) => answerReadiness(context, query)],
  ]);
  const refusal = `only ${METHODS.join(' and ')} of ${[...pages.keys()].join(', ')} are served here\n`;
  return async (
    { method = '', url = '', headers: asked }: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> => {
    const [path = '', ...query] = url.split('?');
    const page = pages.get(path);
    // Node would read the rest of its body after the answer, however much comes.
    const hasBody = 'content-length' in asked || 'transfer-encoding' in asked;
    if (hasBody) response.setHeader('Connection', 'close');
    if (page !== undefined && METHODS.includes(method)) {
      const { status, type, body } = await page(query.join('?'));
      const headers = { 'Content-Type': type, 'Content-Length': Buffer.byteLength(body), 'Cache-Control': 'no-store' };
      response.writeHead(status, headers).end(body);
      return;
    }
    const allow = page !== undefined && { Allow: METHODS.join(', ') };
    const headers = { 'Content-Type': 'text/plain', Connection: 'close', ...allow };
    response.writeHead(page === undefined ? 404 : 405, headers).end(refusal);
  };
}
