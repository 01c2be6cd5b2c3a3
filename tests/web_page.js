"use strict";
// web_page.js PAGE SCREENSHOTS: opens the page from disk in headless Chromium; prints its greedy
// story, and to stderr what is wrong with the page. Needs playwright-core (NODE_PATH) and the
// command chromium. Screenshots, to be looked at: light.png, dark.png, phone.png.
const path = require("path");
const { chromium } = require("playwright-core");
const [page_path, out] = process.argv.slice(2);
const url = `file://${path.resolve(page_path)}`;
const timeout = 120000;

function fault(message) {
    console.error(message);
    process.exitCode = 1;
}

async function open(browser, viewport, colorScheme) {
    const page = await browser.newPage({ viewport, colorScheme });
    page.setDefaultTimeout(timeout);
    page.on("console", (m) => fault(`console: ${m.text()}`));
    page.on("pageerror", (e) => fault(`error: ${e.message}`));
    page.on("request", (r) => /^(file|data|blob):/.test(r.url()) || fault(`request: ${r.url()}`));
    await page.goto(url);
    return page;
}

// What a hasty user does: stops at once; too long a beginning, which must not be the last.
async function haste(page) {
    const says = (pattern) => page.waitForFunction((p) => RegExp(p).test(
        document.getElementById("story-status").innerText), pattern);
    await page.evaluate(() => {
        for (let i = 0; i < 2; i++) document.getElementById("tell").click();
    });
    await says("^Stopped: 1 tokens?\\.$");
    await page.fill("#prompt", "\u{1F600}".repeat(150));
    await page.press("#prompt", "Enter");
    await says("^No story: context full");
    await page.fill("#prompt", "The cat");
    await page.press("#prompt", "Enter");
    await page.fill("#prompt", "<i>"); // another one, while that story comes
    await page.press("#prompt", "Enter");
    await says("^The story has ended");
    if (!(await page.textContent("#story")).startsWith("<i>")) fault("<i> became markup");
    await page.fill("#prompt", "Once upon a time");
    await page.press("#prompt", "Enter");
    await page.waitForFunction(() => document.getElementById("story").innerText.length > 200);
    await says("^The story has ended");
}

// Decodes in turn to the end, or until the curves have some points: stops then by the keyboard.
async function compare(page, name, whole) {
    await page.waitForSelector("#run:enabled");
    await page.focus("#run");
    await page.keyboard.press("Enter");
    if (!whole) {
        await page.waitForFunction(() => document.querySelectorAll("#speed circle").length > 17);
        await page.keyboard.press("Enter");
    }
    await page.waitForFunction(
        () => /^With /.test(document.querySelector("#run-status").innerText));
    const said = await page.textContent("#run-status");
    if (whole && !said.startsWith("With 2,048 tokens")) fault(`${name}: stopped early: ${said}`);
    for (const chart of ["speed", "cache"])
        for (const variant of ["mha", "gqa", "mqa"])
            if (await page.locator(`#${chart} .${variant} .curve`).count() !== 1)
                fault(`${name}: no curve ${variant} in ${chart}`);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    if (wide > 0) fault(`${name}: ${wide} pixels too wide`);
    await checkContrast(page, name);
    await page.screenshot({ path: path.join(out, `${name}.png`), fullPage: true });
}

// What a screen reader is told: controls, pictures and parts have names, charts also a text that
// follows them; only the two lines of state are announced.
async function checkTree(page) {
    const cdp = await page.context().newCDPSession(page);
    const { nodes } = await cdp.send("Accessibility.getFullAXTree");
    const text = (value) => (value && value.value) || "";
    const shown = nodes.filter((n) => !n.ignored).map((n) => ({ role: text(n.role),
        name: text(n.name), description: text(n.description),
        live: n.properties.some((p) => p.name === "live" && p.value.value !== "off") }));
    const controls = /^(button|checkbox|textbox|progressbar|image|figure|article|region|table)$/;
    const named = shown.filter((n) => controls.test(n.role));
    for (const n of named) if (!n.name) fault(`a ${n.role} without a name`);
    const count = (role) => named.filter((n) => n.role === role).length;
    const expected = { textbox: 1, checkbox: 1, button: 2, figure: 2, article: 3, region: 2,
        table: 1 };
    for (const [role, n] of Object.entries(expected))
        if (count(role) !== n) fault(`${count(role)} of role ${role}, not ${n}`);
    for (const title of ["Tokens a second, by", "KV cache in MiB, by"]) {
        const chart = named.find((n) => /^im/.test(n.role) && n.name.startsWith(title));
        if (!chart) fault(`no chart "${title}"`);
        else if (!/MHA [\d.,]+ at [\d,]+ tokens, GQA .*, MQA /.test(chart.description))
            fault(`the chart "${title}" has the text "${chart.description}"`);
    }
    for (const n of [8, 2, 1])
        if (!named.some((x) => x.name === `8 query heads over ${n} K and V heads`))
            fault(`no picture of ${n} K and V heads`);
    const live = shown.filter((n) => n.live);
    if (live.length !== 2 || live.some((n) => n.role !== "status"))
        fault(`live: ${live.map((n) => n.role).join(", ")}`);
}

// Tab goes through all controls in the order of the page.
async function checkTabs(page) {
    const seen = [];
    await page.focus("#prompt");
    for (let i = 0; i < 4; i++) {
        await page.keyboard.press("Tab");
        seen.push(await page.evaluate(() => document.activeElement.id));
    }
    if (seen.join() !== "greedy,tell,run,") fault(`Tab goes from prompt to ${seen.join(", ")}`);
}

// WCAG 2's contrast of every text with what lies behind it: at least 4.5.
async function checkContrast(page, name) {
    const low = await page.evaluate(() => {
        const parse = (css) => css.match(/[\d.]+/g).map(Number);
        const luminance = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) =>
            c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
            .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
        const behind = (e) => {
            if (e === null) return parse("rgb(255 255 255)");
            const color = parse(getComputedStyle(e).backgroundColor);
            return color.length === 3 || color[3] > 0 ? color : behind(e.parentElement);
        };
        const found = [];
        for (const e of document.body.querySelectorAll("*")) {
            const has_text = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
            if (!e.getClientRects().length || !(has_text || e.matches("input[type=text]")))
                continue;
            const style = getComputedStyle(e), is_svg = e instanceof SVGElement;
            const ink = luminance(parse(is_svg ? style.fill : style.color));
            const paper = luminance(behind(e));
            const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
            if (ratio < 4.5) found.push(`${e.localName} "${e.textContent.slice(0, 20)}" ${ratio}`);
        }
        return found;
    });
    for (const text of low) fault(`${name}: too little contrast: ${text}`);
}

async function main() {
    const args = ["--no-sandbox"];
    const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args });
    const desk = { width: 1100, height: 900 };
    const light = await open(browser, desk, "light");
    await light.waitForFunction(
        () => /ended/.test(document.querySelector("#story-status").innerText));
    process.stdout.write(await light.textContent("#story") + "\n");
    await haste(light);
    await compare(light, "light", true);
    await checkTree(light);
    await checkTabs(light);
    await compare(await open(browser, desk, "dark"), "dark");
    await compare(await open(browser, { width: 390, height: 844 }, "light"), "phone");
    const old = await browser.newPage();
    await old.addInitScript(() => { WebAssembly.validate = () => false; });
    await old.goto(url);
    if (!/no WebAssembly SIMD/.test(await old.textContent("#problem")))
        fault("without WebAssembly SIMD the page does not say so");
    await browser.close();
}

main().catch((error) => {
    fault(error.message);
    process.exit(1);
});
