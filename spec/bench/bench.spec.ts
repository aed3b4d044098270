/** The parts of the benchmarks, their reports and their plots that need no process, and those of `npm run vm`. */
import './documents.js';
import './options.js';
import './plot.js';
import './report.js';
import './try-vm.js';
