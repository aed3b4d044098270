/** Each package is made and used as people do, which takes a while, and needs the network the first time. One at a time. */
export default {
  files: ['dist/spec/packages/**/*.spec.js'],
  require: ['./packaging/spec-process.mjs'],
  workerThreads: false,
  concurrency: 1,
  nodeArguments: ['--enable-source-maps'],
  timeout: '5m',
};
