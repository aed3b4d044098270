/** The specs that need no virtual machine. They run on the compiled output, each file in a process of its own; many wait, so three run at a time. */
export default {
  files: ['dist/spec/**/*.spec.js', '!dist/spec/vm/**', '!dist/spec/long/**', '!dist/spec/packages/**'],
  require: ['./packaging/record-usage.mjs'],
  workerThreads: false,
  concurrency: 3,
  nodeArguments: ['--enable-source-maps'],
  timeout: '60s',
};
