/** The figures of the process itself, under the names that are usual for them. */
import { performance } from 'node:perf_hooks';
import type { Metric } from './metrics-text.js';

/** `version` is that of the program, such as `vproxy 0.1.0`. All are read as they are: nothing is measured in between. */
export function processMetrics(version: string): Metric[] {
  const { rss, heapUsed, external } = process.memoryUsage();
  const { user, system } = process.cpuUsage();
  const { active, idle } = performance.eventLoopUtilization();
  const one = (type: Metric['type'], name: string, help: string, value: number, labels = {}): Metric => ({
    name,
    type,
    help,
    samples: [{ labels, value }],
  });
  return [
    one('gauge', 'vproxy_build_info', 'Always 1; the versions of program and Node are labels.', 1, {
      version: version.replace(/^vproxy /, ''),
      node: process.versions.node,
    }),
    one(
      'gauge',
      'process_start_time_seconds',
      'When the process began, in seconds since 1970.',
      Math.round(performance.timeOrigin) / 1000,
    ),
    one('counter', 'process_cpu_seconds_total', 'CPU time of the process.', (user + system) / 1e6),
    one('gauge', 'process_resident_memory_bytes', 'Resident memory of the process.', rss),
    one('gauge', 'nodejs_heap_size_used_bytes', 'Memory of the heap of JavaScript that is in use.', heapUsed),
    one('gauge', 'nodejs_external_memory_bytes', 'Memory outside of that heap, such as buffers.', external),
    one('counter', 'vproxy_event_loop_active_seconds_total', 'Time in which the event loop worked.', active / 1000),
    one('counter', 'vproxy_event_loop_idle_seconds_total', 'Time in which the event loop waited.', idle / 1000),
  ];
}
