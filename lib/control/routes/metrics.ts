/** The page for Prometheus. */
import { describeMetrics } from '../metrics.js';
import { METRICS_TYPE } from '../metrics-text.js';
import { textRoute } from '../route.js';

export const metricsRoutes = [
  textRoute({
    method: 'GET',
    path: '/metrics',
    summary: 'The figures of the process and its channels, in the text format of Prometheus',
    contentType: METRICS_TYPE,
    answer: null,
    send: (context, _input, response) => void response.end(describeMetrics(context)),
  }),
];
