export async function showDocuments() {}
