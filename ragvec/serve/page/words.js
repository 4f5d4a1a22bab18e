"use strict";
// What the page says, in two languages, each error that it can show among it; a test compares their names.
const WORDS = {
  en: {
    search: "Search", ask: "What are you looking for?", hybrid: "Hybrid", dense: "Meaning", lexical: "Words", modes: "How to search",
    grouped: "One hit per document", filter: "Filter", more: "More", close: "Close", unlock: "Use this key", key: "API key",
    keySearch: "search", keyMove: "move", keyOpen: "open", keyClose: "close",
    examples: "Try", past: "Asked before", forget: "Forget these", holds: "In this index", wait: "Searching…",
    hits: (count, more, server, network) => `${count}${more ? "+" : ""} ${count === 1 ? "hit" : "hits"} · server ${server} ms · network ${network} ms`,
    none: "Nothing found. Try other words, or another way to search.", noneFiltered: "Nothing found. The filter may be too narrow.",
    noGood: "No good match. These passages are nearest:", weak: "weak match",
    strength: (percent) => `match strength ${percent} %`, cosine: "cosine", byMeaning: (rank) => `#${rank} by meaning`, byWords: (rank) => `#${rank} by words`,
    similar: "Similar documents", like: (title) => `Documents like “${title}”`,
    index: (name, documents) => `${name} · ${documents.toLocaleString("en")} documents`,
    answer: "Answer", reply: "Answer from the documents", reading: "Reading the passages…", page: (page) => `page ${page}`,
    made: "Made by a language model from the passages of this index: check it against its sources.",
    uncited: "It cites no passage: check it against the hits below.", cut: "The answer was cut: it has as many words as are asked for.",
    map: "Map", zoomIn: "Closer", zoomOut: "Further", mapLabel: (count) => `Map of ${count.toLocaleString("en")} passages: what is alike lies together`,
    mapOf: (count, all) => `${count.toLocaleString("en")}${count < all ? ` of ${all.toLocaleString("en")}` : ""} passages; what is alike lies together.`,
    mapStale: (gone, fresh) => `The index has changed since (new: ${fresh.toLocaleString("en")}, gone: ${gone.toLocaleString("en")}). Make it again with ragvec map.`,
    noIndex: "This server has no index to search: start it with  ragvec serve -i INDEX",
    lost: "The server does not answer. Is it still running?",
    locked: "This server asks for its API key.",
    wrongKey: "This API key is wrong.",
    forbidden: "The server does not answer to this address or to pages of this site.",
    gone: "This document is no longer in the index.",
    late: "The request took too long to arrive. Try again.",
    large: "The query is too large for this server.",
    filterWrong: (column) => `The filter can't be read, from character ${column}.`,
    refused: "The server can't use this request.",
    busy: "The server is busy. Try again in a moment.",
    failed: "The server failed. Its log says how.",
    away: "The index or the language model is not available now. Try again in a moment.",
    odd: (status) => `Something between here and the server answered with an error (${status}).`,
  },
  ko: {
    search: "검색", ask: "무엇을 찾으세요?", hybrid: "통합", dense: "의미", lexical: "단어", modes: "검색 방식",
    grouped: "문서마다 하나씩", filter: "조건", more: "더 보기", close: "닫기", unlock: "이 키로 열기", key: "API 키",
    keySearch: "검색창", keyMove: "이동", keyOpen: "열기", keyClose: "닫기",
    examples: "이렇게 물어보세요", past: "지난 검색", forget: "기록 지우기", holds: "색인에 있는 것", wait: "찾고 있습니다…",
    hits: (count, more, server, network) => `결과 ${count}${more ? "+" : ""}개 · 서버 ${server} ms · 네트워크 ${network} ms`,
    none: "찾은 것이 없습니다. 다른 말이나 다른 검색 방식을 써 보세요.", noneFiltered: "찾은 것이 없습니다. 조건이 너무 좁을 수 있습니다.",
    noGood: "잘 맞는 글이 없습니다. 가장 가까운 글은 다음과 같습니다.", weak: "약한 일치",
    strength: (percent) => `일치 정도 ${percent} %`, cosine: "코사인", byMeaning: (rank) => `의미 ${rank}위`, byWords: (rank) => `단어 ${rank}위`,
    similar: "비슷한 문서", like: (title) => `“${title}”와(과) 비슷한 문서`,
    index: (name, documents) => `${name} · 문서 ${documents.toLocaleString("ko")}개`,
    answer: "답변", reply: "문서에서 찾은 답변", reading: "글을 읽고 있습니다…", page: (page) => `${page}쪽`,
    made: "언어 모델이 이 색인의 글로 만든 답변입니다. 출처와 견주어 확인하세요.",
    uncited: "근거로 밝힌 글이 없습니다. 아래 결과와 견주어 확인하세요.", cut: "답변이 길어 잘렸습니다.",
    map: "지도", zoomIn: "가까이", zoomOut: "멀리", mapLabel: (count) => `글 ${count.toLocaleString("ko")}개의 지도: 비슷한 것끼리 모여 있습니다`,
    mapOf: (count, all) => `글 ${count < all ? `${all.toLocaleString("ko")}개 중 ` : ""}${count.toLocaleString("ko")}개, 비슷한 것끼리 모여 있습니다.`,
    mapStale: (gone, fresh) => `그 뒤로 색인이 바뀌었습니다: 새 글 ${fresh.toLocaleString("ko")}개, 없어진 글 ${gone.toLocaleString("ko")}개. ragvec map 으로 다시 만드세요.`,
    noIndex: "이 서버에는 검색할 색인이 없습니다. ragvec serve -i INDEX 로 시작하세요.",
    lost: "서버가 응답하지 않습니다. 아직 실행 중인가요?",
    locked: "이 서버는 API 키를 요구합니다.",
    wrongKey: "API 키가 틀렸습니다.",
    forbidden: "서버가 이 주소나 이 사이트의 페이지에는 답하지 않습니다.",
    gone: "이 문서는 이제 색인에 없습니다.",
    late: "요청이 제때 도착하지 않았습니다. 다시 시도하세요.",
    large: "이 서버가 받기에는 검색어가 너무 깁니다.",
    filterWrong: (column) => `조건을 읽을 수 없습니다(${column}번째 글자부터).`,
    refused: "서버가 처리할 수 없는 요청입니다.",
    busy: "서버가 바쁩니다. 잠시 뒤에 다시 시도하세요.",
    failed: "서버에서 오류가 났습니다. 자세한 내용은 서버 기록에 있습니다.",
    away: "색인이나 언어 모델을 지금 쓸 수 없습니다. 잠시 뒤에 다시 시도하세요.",
    odd: (status) => `서버에 닿기 전에 오류가 났습니다(${status}).`,
  },
};
const language = navigator.language.startsWith("ko") ? "ko" : "en";
const say = WORDS[language];
const byId = (id) => document.getElementById(id);

document.documentElement.lang = language;
for (const element of document.querySelectorAll("[data-say]")) element.textContent = say[element.dataset.say];

function make(tag, text, className) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
}

function button(text, className, act) {
  const element = make("button", text, className);
  element.type = "button";
  element.addEventListener("click", act);
  return element;
}
