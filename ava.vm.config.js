import { longestFirst } from './packaging/longest-first.mjs';

/** Specs that boot a real guest under QEMU. Three at a time: an emulated guest uses one processor, and often waits. */
export default {
  files: ['dist/spec/vm/**/*.spec.js'],
  require: ['./packaging/spec-process.mjs'],
  workerThreads: false,
  concurrency: 3,
  sortTestFiles: longestFirst('systemd documents restarts channels getting-started'),
  nodeArguments: ['--enable-source-maps'],
  timeout: '20m',
};
