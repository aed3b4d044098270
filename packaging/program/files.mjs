// The files that the program consists of (docs/decisions/0020-program-in-few-files.md).

/** The module whose exports are those of the package. */
export const LIBRARY = 'lib/index.ts';

/**
 * The files that share their parts, in this order: each has the imports of its modules, except those in a file above. A row
 * without modules has the remaining modules that are imported on demand. `keeps`: files that are opened along with it, so that
 * they can be read after an update has replaced them.
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
      // Small, and needed in every guest.
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
      'lib/control/server/public-pages.ts',
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
  { name: 'library', modules: [LIBRARY] },
  // Before yargs: their common parts are small, and commands that print a table need not load yargs.
  { name: 'commands' },
  { name: 'yargs', modules: ['cli/command/yargs-reader.ts'] },
  { name: 'doctor', modules: ['cli/doctor/request.ts', 'cli/doctor/machine.ts', 'cli/doctor/plan.ts'] },
];

/** Standalone files, whose processes load nothing else: modules are duplicated in them. */
export const SINGLE_FILES = { exec: 'cli/exec/run-exec.ts', 'vproxy-storage': 'cli/vproxy-storage.ts' };
