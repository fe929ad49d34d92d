// The language of a page is in its query.
document.documentElement.lang = new URLSearchParams(location.search).get('lang') ?? 'en';
document.documentElement.dir = document.documentElement.lang === 'ar' ? 'rtl' : 'ltr';
