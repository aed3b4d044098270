import { longestFirst } from './packaging/longest-first.mjs';

/** Specs without virtual machines. They run compiled, each file in its own process; many wait, so four run at a time. */
export default {
  files: ['dist/spec/**/*.spec.js', '!dist/spec/vm/**', '!dist/spec/long/**', '!dist/spec/packages/**'],
  require: ['./packaging/spec-process.mjs'],
  workerThreads: false,
  concurrency: 4,
  sortTestFiles: longestFirst(
    'many-channels.slow copy.slow site.slow scenes.slow ansible.slow upgrade.slow sweeps.slow egress-programs.slow held.slow',
    'neighbours.slow running.slow upgrade-end.slow floods.slow lost.slow streams.slow announced-ports.slow demo.slow completion.slow',
  ),
  nodeArguments: ['--enable-source-maps'],
  // Processes have deadlines of their own (packaging/spec-process.mjs): this is for one that is stuck in a loop.
  timeout: '15m',
};
