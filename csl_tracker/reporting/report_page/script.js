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
  const steps = document.querySelector(".steps");
  if (video && steps) {
    const starts = steps.dataset.starts.split(" ").map(Number);
    const last = starts.length - 1;
    const shown = () => {  // the last frame that has started
      let low = 0, high = last;
      while (low < high) {
        const middle = (low + high + 1) >> 1;
        if (starts[middle] <= video.currentTime + 1e-4) low = middle; else high = middle - 1;
      }
      return low;
    };
    const say = () => { steps.querySelector("output").textContent = `frame ${shown()} of 0 to ${last}`; };
    for (const button of steps.querySelectorAll("button")) {
      button.addEventListener("click", () => {
        video.pause();
        const frame = Math.min(last, Math.max(0, shown() + Number(button.dataset.step)));
        if (frame === shown()) return;  // Chromium takes a second seek to the last frame for the end of the video
        // The middle of a frame, so that rounding shows no neighbour; the end of the last one is not known.
        video.currentTime = frame < last ? (starts[frame] + starts[frame + 1]) / 2 : starts[frame] + 0.002;
      });
    }
    for (const event of ["loadeddata", "timeupdate", "seeked"]) video.addEventListener(event, say);
    say();
  }
  const first = document.querySelector("button[data-frame]");
  if (first) choose(first.dataset.frame);
})();
