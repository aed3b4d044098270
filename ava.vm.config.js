/** The specs that boot a real guest under QEMU: one at a time, because software emulation wants both cores. */
export default {
  files: ['dist/spec/vm/**/*.spec.js'],
  require: ['./packaging/record-usage.mjs'],
  workerThreads: false,
  concurrency: 1,
  serial: true,
  nodeArguments: ['--enable-source-maps'],
  timeout: '10m',
};
