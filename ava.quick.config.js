import everything from './ava.config.js';

/** What a contributor runs: all specs but those whose names say that they are slow. Three at a time: many wait for sockets. */
export default { ...everything, concurrency: 3, files: [...everything.files, '!dist/spec/**/*.slow.spec.js'] };
