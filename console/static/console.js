// Reads a part of the page again, so that it stays current. Without scripts the page reloads itself.
"use strict";
for (const part of document.querySelectorAll("[data-refresh]")) {
  const seconds = Number(part.dataset.seconds);
  const again = async () => {
    // Nobody looks, or somebody is about to use what would be replaced.
    const busy = document.hidden || part.contains(document.activeElement) || !getSelection().isCollapsed;
    try {
      if (!busy) {
        const answer = await fetch(part.dataset.refresh, { redirect: "error" });
        part.classList.toggle("stale", !answer.ok);
        if (answer.ok) {
          const read = new DOMParser().parseFromString(await answer.text(), "text/html");
          part.replaceChildren(...read.body.childNodes);
        }
      }
    } catch {
      part.classList.add("stale");
    }
    setTimeout(again, seconds * 1000);
  };
  setTimeout(again, seconds * 1000);
}
