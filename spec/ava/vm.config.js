import { longestFirst } from '../../tools/test/longest-first.mjs';

/** Specs that boot a real guest under QEMU. Three at a time: an emulated guest uses one processor, and often waits. */
export default {
  files: ['dist/spec/vm/**/*.spec.js'],
  require: ['./tools/test/spec-process.mjs'],
  workerThreads: false,
  concurrency: 3,
  sortTestFiles: longestFirst('systemd documents restarts channels getting-started'),
  environmentVariables: { VPROXY_TEST_QUIET_MS: String(1_200_000) },
  nodeArguments: ['--enable-source-maps'],
  timeout: '20m',
};
