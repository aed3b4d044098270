import everything from './ava.config.js';

/** What a contributor runs: all specs but those whose names say that they are slow. */
export default { ...everything, files: [...everything.files, '!dist/spec/**/*.slow.spec.js'] };
