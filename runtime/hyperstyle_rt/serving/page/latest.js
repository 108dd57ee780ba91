// Work that is asked for faster than it can be done: one at a time, and then the latest wish alone.

export function latest(work, fail) {
  let wish = null;
  let busy = false;

  async function run() {
    busy = true;
    while (wish !== null) {
      const mine = wish;
      wish = null;
      try {
        await work(...mine);
      } catch (error) {
        fail(error);
      }
    }
    busy = false;
  }

  return (...wanted) => {
    wish = wanted;
    if (!busy) run();
  };
}
