// Runs `triton` command after command in one process: loading it takes ten times as long as a command.
//
//     node resident.js FOLDER_OF_TRITON
//
// A command is a JSON list of words, on a line of stdin; its exit status and what it printed are an object, on a line of stdout.
// It is over when a process of its own would be: nothing is left to be done, or it called process.exit.
'use strict';

const fs = require('fs');
const path = require('path');

const cli = require(path.join(process.argv[2], 'lib', 'cli'));

const leave = process.exit;
const EXIT = new Error('process.exit');
let captured = null;

for (const name of ['stdout', 'stderr']) {
    process[name].write = (text, encoding, written) => {
        captured[name] += text;
        const then = typeof encoding === 'function' ? encoding : written;
        if (then) {
            process.nextTick(then);
        }
        return true;
    };
}

process.exit = (status) => {
    process.exitCode = status;
    throw EXIT;
};

process.on('uncaughtException', (fault) => {
    if (fault !== EXIT) {
        captured.stderr += `${fault.stack}\n`;
        process.exitCode = 1;
    }
});

process.on('beforeExit', () => {
    if (captured) {
        fs.writeFileSync(1, `${JSON.stringify({ status: process.exitCode || 0, ...captured })}\n`);
    }
    const line = nextLine();
    if (!line) {
        leave(0);
    }
    captured = { stdout: '', stderr: '' };
    process.exitCode = undefined;
    setImmediate(() => cli.main(['node', 'triton', ...JSON.parse(line)]));
});

/** Waits for it: meanwhile there is nothing to be done. */
function nextLine() {
    const piece = Buffer.alloc(65536);
    let line = '';
    while (!line.endsWith('\n')) {
        const read = fs.readSync(0, piece);
        if (read === 0) {
            return '';
        }
        line += piece.toString('utf8', 0, read);
    }
    return line;
}
