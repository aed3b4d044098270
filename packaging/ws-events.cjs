'use strict';
// In place of the events of browsers in ws: vproxy uses those of Node.
exports.EventTarget = {};
