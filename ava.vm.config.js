/** The specs that boot a real guest under QEMU, the longest first. Three at a time: one emulated guest uses one processor, and often waits. */
const LONGEST_FIRST = ['systemd', 'documents', 'getting-started', 'channels', 'restarts', 'exec', 'secured', 'control'];

const rankOf = (path) => {
  const rank = LONGEST_FIRST.findIndex((name) => path.endsWith(`/${name}.spec.js`));
  return rank === -1 ? LONGEST_FIRST.length : rank;
};

export default {
  files: ['dist/spec/vm/**/*.spec.js'],
  require: ['./packaging/record-usage.mjs'],
  workerThreads: false,
  concurrency: 3,
  sortTestFiles: (one, other) => rankOf(one) - rankOf(other),
  nodeArguments: ['--enable-source-maps'],
  timeout: '20m',
};
