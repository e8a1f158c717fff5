// The uploads of one page, one file after the other, away from what is shown. Messages in and out are plain objects
// named by `n`, the row they are about.

import { Upload } from "./upload.js";

const TELL_MS = 250;
const uploads = new Map();
let running = null;

function tell(n) {
  const upload = uploads.get(n);
  const { state, sent, speed, problem, id } = upload;
  postMessage({ type: "state", n, state, sent, speed, id, problem: problem && { code: problem.code, status: problem.status, extra: problem.extra } });
}

async function next() {
  if (running !== null) return;
  for (const [n, upload] of uploads) {
    if (upload.state === "waiting") {
      running = n;
      await upload.run();
      running = null;
      return void next();
    }
  }
}

setInterval(() => { if (running !== null) tell(running); }, TELL_MS);

onmessage = ({ data }) => {
  const upload = uploads.get(data.n);
  switch (data.type) {
    case "add":
      uploads.set(data.n, new Upload({
        ...data.upload,
        remember: (entry) => postMessage({ type: "remember", n: data.n, entry }),
        changed: () => tell(data.n),
      }));
      break;
    case "pause": upload.pause(); break;
    case "resume": upload.set("waiting"); break;
    case "cancel": upload.cancel(); break;
    case "online": for (const each of uploads.values()) each.wake(); return;
  }
  next();
};
