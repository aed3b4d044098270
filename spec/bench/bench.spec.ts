/** The parts of the benchmarks, their reports and their plots that need no process. */
import './documents.js';
import './options.js';
import './plot.js';
import './report.js';
