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
    const fps = Number(steps.dataset.fps);
    const last = Number(steps.dataset.frames) - 1;
    const shown = () => Math.min(last, Math.max(0, Math.floor(video.currentTime * fps)));
    const say = () => { steps.querySelector("output").textContent = `frame ${shown()} of 0 to ${last}`; };
    for (const button of steps.querySelectorAll("button")) {
      button.addEventListener("click", () => {
        video.pause();
        const frame = Math.min(last, Math.max(0, shown() + Number(button.dataset.step)));
        if (frame === shown()) return;  // Chromium takes a second seek to the last frame for the end of the video
        video.currentTime = (frame + 0.5) / fps;  // the middle of a frame, so that rounding shows no neighbour
      });
    }
    for (const event of ["loadeddata", "timeupdate", "seeked"]) video.addEventListener(event, say);
    say();
  }
  const first = document.querySelector("button[data-frame]");
  if (first) choose(first.dataset.frame);
})();
