/** Builds and uses each package as a user would, which takes a while, and the first time needs the network. One at a time. */
export default {
  files: ['dist/spec/packages/**/*.spec.js'],
  require: ['./tools/test/spec-process.mjs'],
  workerThreads: false,
  concurrency: 1,
  environmentVariables: { VPROXY_TEST_QUIET_MS: String(300_000) },
  nodeArguments: ['--enable-source-maps'],
  timeout: '5m',
};
