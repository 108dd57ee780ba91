// A photo by the camera; the stream ends with the dialog.

import { byId, say } from "./elements.js";

export class Camera {
  constructor(take) {
    this.dialog = byId("camera-dialog");
    byId("camera").hidden = !navigator.mediaDevices?.getUserMedia;
    byId("camera").addEventListener("click", () => this.open());
    byId("camera-close").addEventListener("click", () => this.dialog.close());
    byId("shoot").addEventListener("click", async () => {
      take(await this.shoot());
      this.dialog.close();
    });
    this.dialog.addEventListener("close", () => {
      for (const track of this.stream?.getTracks() ?? []) track.stop();
    });
  }

  async open() {
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1920 } } });
    } catch {
      say("The camera cannot be used; allow it, or choose a picture.", true);
      return;
    }
    byId("viewfinder").srcObject = this.stream;
    this.dialog.showModal();
  }

  async shoot() {
    const video = byId("viewfinder");
    const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
    canvas.getContext("2d").drawImage(video, 0, 0);
    const blob = await canvas.convertToBlob({ type: "image/png" });
    return new File([blob], "photo.png", { type: "image/png" });
  }
}
