// As Airflow's page around us: its choice is kept in localStorage, and changes there show here.
(() => {
  const root = document.documentElement;
  const follow = () => {
    let chosen = null;
    try { chosen = localStorage.getItem("theme"); } catch { /* storage is refused: the system's */ }
    if (chosen === "dark" || chosen === "light") root.dataset.theme = chosen;
    else delete root.dataset.theme;
    dispatchEvent(new Event("themed"));
  };
  follow();
  addEventListener("storage", follow);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", follow);
})();
