/** What of the benchmarks, their reports and their drawings needs no process. */
import './documents.js';
import './options.js';
import './plot.js';
import './report.js';
