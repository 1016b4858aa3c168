"use strict";
// A mark of the diagram or a button names a frame: show its picture, and seek the video to it.
(() => {
  const video = document.querySelector("video");
  const picture = document.getElementById("picture");
  const caption = document.getElementById("caption");
  const choose = (frame) => {
    for (const item of document.querySelectorAll("[data-frame]")) {
      item.classList.toggle("chosen", item.dataset.frame === frame);
    }
    const button = document.querySelector(`button[data-frame="${frame}"]`);
    if (!button) return;
    const source = document.getElementById(`frame-${frame}`);
    if (picture && source) {
      picture.src = source.textContent.trim();
      picture.alt = button.textContent;
      picture.hidden = false;
    }
    if (caption) caption.textContent = button.title;
    if (video) {
      video.pause();
      video.currentTime = Number(button.dataset.time);
    }
    document.body.dataset.chosen = frame;
  };
  for (const item of document.querySelectorAll("[data-frame]")) {
    item.addEventListener("click", () => {
      choose(item.dataset.frame);
      document.getElementById("player").scrollIntoView({ block: "nearest" });
    });
    item.addEventListener("keydown", (event) => {
      if (item.tagName !== "BUTTON" && (event.key === "Enter" || event.key === " ")) {
        event.preventDefault();
        choose(item.dataset.frame);
      }
    });
  }
  const first = document.querySelector("button[data-frame]");
  if (first) choose(first.dataset.frame);
})();
