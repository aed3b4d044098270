/** Answers requests where only the figures for Prometheus are to be had. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { ControlContext } from './control-server.js';
import { describeMetrics, METRICS_TYPE } from './metrics.js';

/** The page for `GET /metrics`, 404 for any other path, 405 for any other method. */
export function answerMetrics(
  context: Pick<ControlContext, 'proxy' | 'process'>,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  const isKnown = request.url?.split('?')[0] === '/metrics';
  if (isKnown && request.method === 'GET') {
    response.writeHead(200, { 'Content-Type': METRICS_TYPE }).end(describeMetrics(context));
    return;
  }
  const headers = { 'Content-Type': 'text/plain', Connection: 'close', ...(isKnown && { Allow: 'GET' }) };
  response.writeHead(isKnown ? 405 : 404, headers).end('only GET /metrics is here\n');
}
