// `node -r hurry.js`: what polls every second or two does so ten times as often. A time-out, which is longer, stays.
'use strict';

const wait = global.setTimeout;

global.setTimeout = (action, milliseconds, ...given) =>
    wait(action, milliseconds >= 500 && milliseconds <= 3000 ? milliseconds / 10 : milliseconds, ...given);
