// Which files the program consists of, and what each of them is for (docs/decisions/0020-program-in-few-files.md).

/**
 * The files that share what is in them, in this order: each has what its modules import, unless a file above has that. A row
 * without modules is for those that no row names, and that are imported on demand. `keeps`: files that are
 * opened with it, so that they can be read after they were replaced.
 */
export const SHARED_FILES = [
  { name: 'vproxy', modules: ['cli/vproxy.ts'] },
  { name: 'command', modules: ['cli/main.ts', 'cli/package-info.ts', 'cli/ui/print.ts'] },
  {
    name: 'carry',
    modules: [
      'cli/commands/run.ts',
      'cli/run/run-options.ts',
      'cli/run/run-proxy.ts',
      'lib/proxy/proxy.ts',
      // Small, and of each guest.
      'lib/info/info-service.ts',
    ],
    keeps: ['neighbours', 'control', 'permitted'],
  },
  { name: 'neighbours', modules: ['cli/run/find-rival.ts'] },
  {
    name: 'control',
    modules: [
      'lib/control/server/request-handler.ts',
      'lib/control/routes/table.ts',
      'lib/control/context/metrics.ts',
      'cli/upgrade/predecessor.ts',
    ],
  },
  {
    name: 'permitted',
    modules: [
      'lib/exec/exec-runner.ts',
      'lib/exec/pty/spawn-in-terminal.ts',
      'lib/exec/recording/recorded-call.ts',
      'lib/exec/recording/terminal-recorder.ts',
      'lib/copy/copy-service.ts',
    ],
  },
  // Before yargs: what both have is small, and a command that prints a table does not load yargs for it.
  { name: 'commands' },
  { name: 'yargs', modules: ['cli/command/yargs-reader.ts'] },
  { name: 'doctor', modules: ['cli/doctor/request.ts', 'cli/doctor/machine.ts', 'cli/doctor/plan.ts'] },
];

/** The files that stand alone, as their processes load nothing else: a module is in each of them once more. */
export const SINGLE_FILES = { exec: 'cli/exec/run-exec.ts', 'vproxy-storage': 'cli/vproxy-storage.ts' };
