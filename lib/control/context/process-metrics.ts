/** The metrics of the process itself, under their usual names; they need no sampling. */
import { performance } from 'node:perf_hooks';
import { machineHistory } from '../../services/machine-history.js';
import { countDescriptors, descriptorLimit } from '../../system/descriptors.js';
import type { ProcessControl } from './context.js';
import { labelText, type Metric, type MetricsText } from './metrics-text.js';

const BUILD_INFO: Metric = {
  name: 'vproxy_build_info',
  type: 'gauge',
  help: 'Always 1; the versions of vproxy and Node are labels.',
};

const LOST_LINES: Metric = {
  name: 'vproxy_log_lines_lost_total',
  type: 'counter',
  help: 'Lines that could not be written to the log or to the audit log.',
};

interface ProcessMetric extends Metric {
  /** Reads its value; null if the system does not tell. */
  readonly read: () => number | null;
}

const metric = (type: 'counter' | 'gauge', name: string, help: string, read: () => number | null): ProcessMetric => ({
  name,
  type,
  help,
  read,
});

const PROCESS_METRICS: readonly ProcessMetric[] = [
  metric(
    'gauge',
    'process_start_time_seconds',
    'Start time of the process, in seconds since 1970.',
    () => Math.round(performance.timeOrigin) / 1000,
  ),
  metric('counter', 'process_cpu_seconds_total', 'CPU time of the process.', () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1e6;
  }),
  metric('gauge', 'process_resident_memory_bytes', 'Resident memory of the process.', () => process.memoryUsage.rss()),
  metric('gauge', 'process_open_fds', 'Open file descriptors.', countDescriptors),
  metric('gauge', 'process_max_fds', 'Limit on open file descriptors.', descriptorLimit),
  metric('gauge', 'nodejs_heap_size_used_bytes', 'JavaScript heap in use.', () => process.memoryUsage().heapUsed),
  metric(
    'gauge',
    'nodejs_external_memory_bytes',
    'Memory outside the JavaScript heap, such as buffers.',
    () => process.memoryUsage().external,
  ),
  metric(
    'counter',
    'vproxy_event_loop_active_seconds_total',
    'Time that the event loop was active.',
    () => performance.eventLoopUtilization().active / 1000,
  ),
  metric(
    'counter',
    'vproxy_event_loop_idle_seconds_total',
    'Time that the event loop was idle.',
    () => performance.eventLoopUtilization().idle / 1000,
  ),
  metric(
    'counter',
    'vproxy_machine_restores_total',
    'Restores of this machine that were noticed.',
    () => machineHistory.restores,
  ),
  metric(
    'counter',
    'vproxy_machine_clock_steps_total',
    'Times that the clock was set.',
    () => machineHistory.clockSteps,
  ),
  metric('counter', 'vproxy_machine_freezes_total', 'Freezes of file systems.', () => machineHistory.freezes),
];

const NO_LINES = { log: 0, audit: 0 };

export function addProcessMetrics(
  text: MetricsText,
  { version, lostLines = NO_LINES }: Pick<ProcessControl, 'version' | 'lostLines'>,
): void {
  const versions = { version: version.replace(/^vproxy /, ''), node: process.versions.node };
  text.add(BUILD_INFO, labelText(versions), 1);
  for (const each of PROCESS_METRICS) {
    const value = each.read();
    if (value !== null) text.add(each, '', value);
  }
  for (const [log, count] of Object.entries(lostLines)) text.add(LOST_LINES, labelText({ log }), count);
}
