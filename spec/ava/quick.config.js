import everything from './all.config.js';

/** The specs for contributors: all except those named slow. */
export default { ...everything, files: [...everything.files, '!dist/spec/**/*.slow.spec.js'] };
