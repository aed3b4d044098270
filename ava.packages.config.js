/** The packages that are made with what has to be fetched first: other versions of Node, and tools of Debian. One at a time. */
export default {
  files: ['dist/spec/packages/**/*.spec.js'],
  workerThreads: false,
  concurrency: 1,
  nodeArguments: ['--enable-source-maps'],
  timeout: '5m',
};
