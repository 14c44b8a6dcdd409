// Keeps a part of the page current: by a stream of the server's, or by reading it again. Without scripts the page
// reloads itself.
"use strict";

// Nobody looks, or somebody is about to use what would be replaced.
const isBusy = (part) => document.hidden || part.contains(document.activeElement) || !getSelection().isCollapsed;

const show = (part, text) => {
  const read = new DOMParser().parseFromString(text, "text/html");
  part.replaceChildren(...read.body.childNodes);
  part.classList.remove("stale");
};

for (const part of document.querySelectorAll("[data-live]")) {
  let stream = null;
  const follow = () => {
    if (document.hidden) {
      stream?.close();
      stream = null;
    } else if (stream === null || stream.readyState === EventSource.CLOSED) {
      stream = new EventSource(part.dataset.live);
      stream.onmessage = (event) => isBusy(part) || show(part, event.data);
      stream.onerror = () => part.classList.add("stale"); // the browser tries again by itself
      stream.addEventListener("stale", stream.onerror);
    }
  };
  document.addEventListener("visibilitychange", follow);
  follow();
}

for (const part of document.querySelectorAll("[data-refresh]")) {
  const seconds = Number(part.dataset.seconds);
  const again = async () => {
    try {
      if (!isBusy(part)) {
        const answer = await fetch(part.dataset.refresh, { redirect: "error" });
        if (answer.ok) show(part, await answer.text());
        else part.classList.add("stale");
      }
    } catch {
      part.classList.add("stale");
    }
    setTimeout(again, seconds * 1000);
  };
  setTimeout(again, seconds * 1000);
}
