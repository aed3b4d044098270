/** Specs that take minutes or hours: leaks over a million operations, and random searches, which `LONG=1` makes long. */
export default {
  files: ['dist/spec/long/**/*.spec.js', 'dist/spec/model/**/*.spec.js', 'dist/spec/fuzz/**/*.spec.js'],
  workerThreads: false,
  nodeArguments: ['--enable-source-maps', '--expose-gc'],
  timeout: '60m',
};
